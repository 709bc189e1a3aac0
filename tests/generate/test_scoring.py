"""Scores are the log-probabilities of one full forward pass, however the data arrive and are cut."""

from __future__ import annotations

import io
import math
from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from everlong.core.errors import ConfigError, DataError, EverlongError
from everlong.data import ByteCodec, Codec, codec
from everlong.generate import SURPRISAL, Totals, score, score_documents, scoring
from tests.generate.small import SHAPES, small, watch

CODEC = ByteCodec()
DATA = b"def f(x):\n    return x + 1\n" * 3 + bytes(range(256))


def full(model: torch.nn.Module, codec: Codec, ids: list[int]) -> np.ndarray:
    """The definition: one call, without a state."""
    with torch.no_grad():
        logits_TV = model(torch.tensor([[codec.bos, *ids[:-1]]])).logits[0]
    return -logits_TV.log_softmax(-1)[range(len(ids)), ids].numpy() / math.log(2)


def bits(pieces) -> np.ndarray:
    return np.concatenate([np.empty(0), *(piece["bits"] for piece in pieces)])


@pytest.mark.parametrize("family", SHAPES)
def test_scores_are_those_of_the_full_forward(family):
    model = small(family)
    expected = full(model, CODEC, list(DATA))
    assert expected.max() - expected.min() > 12  # the model is sure of itself, often wrongly
    np.testing.assert_allclose(bits(score(model, CODEC, DATA, chunk=100)), expected, rtol=0, atol=1e-10)


@settings(max_examples=8)
@given(chunk=st.integers(3, 400))
def test_the_size_of_chunks_changes_nothing(chunk):
    model = small()
    np.testing.assert_allclose(
        bits(score(model, CODEC, DATA, chunk=chunk)), full(model, CODEC, list(DATA)), rtol=0, atol=1e-10
    )


def test_tokens_know_their_places(tokenizer_codec):
    model = small(vocabulary=tokenizer_codec.vocabulary)
    data = "naïve café, the same words\n".encode() * 5 + b"\xff\x00"
    table = np.concatenate(list(score(model, tokenizer_codec, data, chunk=7)))
    assert table.dtype == SURPRISAL
    assert table["id"].tolist() == tokenizer_codec.encode(data).tolist()
    assert b"".join(data[row["offset"] :][: row["length"]] for row in table) == data
    assert [tokenizer_codec.decode([i]) for i in table["id"].tolist()] == [
        data[row["offset"] : row["offset"] + row["length"]] for row in table
    ]
    np.testing.assert_allclose(table["bits"], full(model, tokenizer_codec, table["id"].tolist()), atol=1e-10)


def test_totals_are_sums():
    totals, model = Totals(), small()
    for piece in score(model, CODEC, DATA, chunk=64):
        totals.add(piece)
    expected = full(model, CODEC, list(DATA)).sum()
    assert (totals.tokens, totals.bytes) == (len(DATA), len(DATA))
    assert totals.bits == pytest.approx(expected)
    assert totals.bits_per_byte == pytest.approx(expected / len(DATA))


def test_no_data_have_no_bits_per_byte():
    assert list(score(small(), CODEC, b"")) == []
    assert math.isnan(Totals().bits_per_byte)


def test_bytes_files_and_paths_score_alike(tmp_path):
    model, path = small(), tmp_path / "data"
    path.write_bytes(DATA)
    expected = bits(score(model, CODEC, DATA))
    for data in (path, str(path), io.BytesIO(DATA)):
        np.testing.assert_array_equal(bits(score(model, CODEC, data)), expected)


class Endless(io.RawIOBase):
    """A file without end, that counts what is read of it."""

    taken = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        buffer[:] = (b"endless\n" * len(buffer))[: len(buffer)]
        self.taken += len(buffer)
        return len(buffer)


def test_a_file_of_any_length_is_read_as_it_is_scored(monkeypatch):
    model, file = small(), Endless()
    calls = watch(model, monkeypatch)
    pieces = list(islice(score(model, CODEC, io.BufferedReader(file), chunk=50), 8))
    assert [len(piece) for piece in pieces] == [50] * 8
    assert calls == [(1, 50, False)] * 8
    assert file.taken <= 2 * codec.BLOCK


def test_blocks_of_a_file_are_the_codecs_own(monkeypatch):
    monkeypatch.setattr(scoring, "BLOCK", 16)
    monkeypatch.setattr(codec, "BLOCK", 16)

    @settings(max_examples=200)
    @given(data=st.lists(st.sampled_from([b"\n", b"ab", b"cdefgh"]), max_size=40).map(b"".join))
    def check(data):
        assert list(scoring._blocks(io.BytesIO(data))) == list(codec.blocks(data))

    check()


@pytest.mark.parametrize("limit", [None, 40])
def test_a_full_context_begins_anew(limit):
    model = small("transformer", context_limit=limit)
    scores = bits(score(model, CODEC, DATA, chunk=15, context=40 if limit is None else None))
    expected = [full(model, CODEC, list(DATA[start : start + 40])) for start in range(0, len(DATA), 40)]
    np.testing.assert_allclose(scores, np.concatenate(expected), rtol=0, atol=1e-10)


def test_calls_are_bounded_by_their_logits(monkeypatch):
    model = small()
    expected = bits(score(model, CODEC, DATA))
    monkeypatch.setattr("everlong.generate.stream.MOST_LOGITS", 20 * 259)
    calls = watch(model, monkeypatch)
    np.testing.assert_allclose(bits(score(model, CODEC, DATA)), expected, rtol=0, atol=1e-10)
    assert max(rows * positions for rows, positions, _ in calls) == 20


@pytest.mark.parametrize("family", SHAPES)
@pytest.mark.parametrize("context", [None, 30])
def test_many_documents_are_scored_as_each_alone(family, context):
    model, rng = small(family), np.random.default_rng(0)
    documents = [rng.integers(0, 256, n).tolist() for n in (0, 70, 3, 31, 1, 90, 30, 70, 29)]
    made = score_documents(model, [[CODEC.bos, *ids] for ids in documents], batch=4, chunk=16, context=context)
    for ids, found in zip(documents, made, strict=True):
        alone = bits(score(model, CODEC, bytes(ids), context=context))
        np.testing.assert_allclose(found, alone, rtol=0, atol=1e-10)


def test_documents_are_taken_group_by_group_and_given_in_order(monkeypatch):
    model, taken = small(), []
    calls = watch(model, monkeypatch)

    def documents():
        for n in range(40):
            taken.append(n)
            yield [CODEC.bos, *b"x" * (n % 7)]

    made = score_documents(model, documents(), batch=2)
    next(made)
    assert len(taken) == 32
    assert [1 + len(b) for b in made] == [1 + n % 7 for n in range(1, 40)]
    assert {call[2] for call in calls} == {False}


def test_documents_take_the_end_into_account_if_it_is_given():
    model = small()
    ids = [CODEC.bos, *b"abc", CODEC.eos]
    (found,) = score_documents(model, [ids])
    np.testing.assert_allclose(found, full(model, CODEC, ids[1:]), atol=1e-10)


def test_broken_weights_are_an_error_not_a_score():
    model = small()
    with torch.no_grad():
        model.embedding.weight[ord("r")] = torch.nan
    with pytest.raises(EverlongError, match="not finite"):
        list(score(model, CODEC, DATA))


@pytest.mark.parametrize(
    ("field", "arguments"),
    [("chunk", {"chunk": 0}), ("context", {"context": 0}), ("context", {"context": 100})],
)
def test_values_out_of_range_are_named(field, arguments):
    model = small(context_limit=50)
    for call in (
        lambda: score(model, CODEC, DATA, **arguments),
        lambda: list(score_documents(model, [[0]], **arguments)),
    ):
        with pytest.raises(ConfigError) as caught:
            call()
        assert caught.value.field == field


def test_a_batch_needs_a_row():
    with pytest.raises(ConfigError, match="batch"):
        list(score_documents(small(), [[0]], batch=0))


@pytest.mark.parametrize("documents", [[[256, 1], []], [[256, 1], [1, 2]]])
def test_documents_must_begin_alike(documents):
    with pytest.raises(DataError, match="BOS"):
        list(score_documents(small(), documents))


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(DataError, match="absent"):
        list(score(small(), CODEC, tmp_path / "absent"))
    with pytest.raises(DataError, match="cannot be read"):
        list(score(small(), CODEC, tmp_path))


def test_a_codec_of_another_model_is_refused(tokenizer_codec):
    with pytest.raises(ConfigError, match=r"codec\.vocabulary"):
        score(small(), tokenizer_codec, b"")
