"""Bits per byte: the numbers of a plain forward pass, an error that sampling confirms, ranges that lose nothing."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from everlong.core.errors import ConfigError, DataError
from everlong.evaluate import bits_per_byte
from everlong.evaluate.bits_per_byte import evaluate, measure, ranges, ratio
from everlong.generate import sliding
from tests.generate.small import small

DOCUMENTS = [b"def f(x):\n    return x\n" * n for n in (1, 7, 3, 2)] + [b"a"]


def sampled(random: np.random.Generator, D: int) -> tuple[np.ndarray, np.ndarray]:
    """Documents whose bits per byte depend on their length, so that the two sums are correlated."""
    bytes_D = (50 + random.lognormal(6, 0.8, D)).astype(np.int64)
    return bytes_D * random.normal(1.5, 0.3, D) + 40 * random.random(D), bytes_D


def test_by_hand():
    estimate, error = ratio(np.array([10.0, 30.0]), np.array([10, 10]))
    assert estimate == 2.0
    assert error == pytest.approx(math.sqrt(2 * (10**2 + 10**2)) / 20)  # D / (D - 1) = 2, residuals -10 and 10


def test_one_document_has_no_error():
    assert ratio(np.array([12.0]), np.array([8])) == (1.5, None)


def test_the_error_is_the_spread_of_repeated_samples():
    random = np.random.default_rng(0)
    estimates, errors = zip(*(ratio(*sampled(random, 60)) for _ in range(2000)), strict=True)
    assert np.mean(errors) == pytest.approx(np.std(estimates), rel=0.06)


def test_the_error_is_close_to_the_jackknife():
    bits_D, bytes_D = sampled(np.random.default_rng(1), 200)
    kept = ~np.eye(200, dtype=bool)
    left_out = np.array([bits_D[rows].sum() / bytes_D[rows].sum() for rows in kept])
    jackknife = math.sqrt(199 / 200 * ((left_out - left_out.mean()) ** 2).sum())
    assert ratio(bits_D, bytes_D)[1] == pytest.approx(jackknife, rel=0.03)


def test_documents_that_are_alike_leave_no_doubt():
    assert ratio(np.array([3.0, 6.0, 9.0]), np.array([2, 4, 6])) == (1.5, pytest.approx(0, abs=1e-12))


@given(st.integers(1, 5000))
def test_ranges_partition_the_positions(longest):
    found = ranges(longest)
    assert [p for first, end in found for p in range(first, end)][:longest] == list(range(longest))
    assert found[-1][0] < longest  # none is empty
    assert all(end - first == max(1, first) for first, end in found)


@given(st.lists(st.integers(1, 70), min_size=1, max_size=6), st.integers(0, 1000))
def test_ranges_hold_every_bit_and_byte_once(lengths, seed):
    random = np.random.default_rng(seed)
    scored = [(random.gamma(1, 1, T + 1), np.append(random.integers(1, 4, T), 0)) for T in lengths]
    found = measure(scored)
    positions = found.by_position
    assert sum(positions.bytes) == found.bytes == sum(int(bytes_T.sum()) for _, bytes_T in scored)
    bits = sum(b * n for b, n in zip(positions.bits_per_byte, positions.bytes, strict=True))
    assert bits == pytest.approx(sum(bits_T.sum() for bits_T, _ in scored)) == pytest.approx(found.bits)
    assert positions.ranges == ranges(max(lengths))
    assert positions.documents == tuple(sum(first < T for T in lengths) for first, _ in positions.ranges)


def test_a_token_counts_where_it_stands():
    bits_T, bytes_T = np.array([8.0, 4.0, 2.0, 2.0, 1.0]), np.array([1, 1, 1, 1, 0])
    found = measure([(bits_T, bytes_T)])
    assert found.by_position.ranges == ((0, 1), (1, 2), (2, 4))
    assert found.by_position.bits_per_byte == (8.0, 4.0, 2.5)  # the end counts where the last byte stands


def test_evaluation_is_the_surprisal_of_single_documents(stored):
    model, store = small().eval(), stored(DOCUMENTS)
    found, total = evaluate(model, store, batch=3, chunk=10), 0.0
    for i in range(len(store)):
        ids = torch.from_numpy(store.document(i).astype(np.int64))
        with torch.no_grad():
            logits_TV = model(ids[None, :-1]).logits[0]
        total -= float(logits_TV.log_softmax(-1)[range(len(ids) - 1), ids[1:]].sum()) / math.log(2)
    assert found.bits == pytest.approx(total, rel=1e-9)
    assert (found.bytes, found.documents) == (sum(map(len, DOCUMENTS)), len(DOCUMENTS))
    assert found.bits_per_byte == pytest.approx(total / found.bytes)


def test_batch_and_chunk_change_nothing(stored):
    model, store = small("linear"), stored(DOCUMENTS)
    one, other = (evaluate(model, store, batch=b, chunk=c) for b, c in ((1, 1000), (4, 7)))
    assert one.bits == pytest.approx(other.bits, rel=1e-9)
    assert one.by_position.bits_per_byte == pytest.approx(other.by_position.bits_per_byte, rel=1e-9)


def test_a_shorter_context_is_measured_as_one(stored):
    model, store = small(), stored([b"abcdefgh" * 10])
    assert evaluate(model, store, context=4).bits != pytest.approx(evaluate(model, store).bits, rel=1e-6)


def test_another_procedure_is_measured_as_one(stored):
    """A window that begins anew when it is full is what a shorter context is; one that overlaps it is not."""
    model, store = small(), stored(DOCUMENTS)
    apart = evaluate(model, store, procedure=lambda plain: sliding(plain, window=12, stride=12))
    overlapping = evaluate(model, store, procedure=lambda plain: sliding(plain, window=12, stride=6))
    assert apart.bits == pytest.approx(evaluate(model, store, context=12).bits)
    assert overlapping.bytes == apart.bytes
    assert abs(overlapping.bits - apart.bits) > 1


def test_nothing_stays_hooked_to_the_model(stored):
    model = small()
    evaluate(model, stored([b"abc"]))
    with pytest.raises(ConfigError, match="batch"):
        evaluate(model, stored([b"abc"]), batch=0)
    assert not model._forward_hooks


def test_progress_comes_to_the_bytes_that_were_scored(stored, monkeypatch):
    told = []

    class Told:
        def __init__(self, label, total):
            self.total = total

        def __enter__(self):
            return told.append

        def __exit__(self, *_):
            return None

    monkeypatch.setattr(bits_per_byte, "progress", Told)
    store = stored([b"x" * 99] * 4)
    evaluate(small(), store, batch=2, chunk=10)
    assert len(told) == 20
    assert sum(told) == pytest.approx(store.total_bytes, rel=0.02)


def test_results_are_json(stored):
    plain = evaluate(small(), stored(DOCUMENTS)).to_dict()
    assert json.loads(json.dumps(plain, allow_nan=False))["by_position"]["ranges"][2] == [2, 4]


def test_what_cannot_be_measured_is_refused(stored):
    with pytest.raises(DataError, match="at least one document"):
        measure([])
    with pytest.raises(DataError, match="holds no bytes"):
        measure([(np.ones(2), np.zeros(2, dtype=np.int64))])
    with pytest.raises(ConfigError, match="vocabulary"):
        evaluate(small(vocabulary=100), stored([b"a"]))
