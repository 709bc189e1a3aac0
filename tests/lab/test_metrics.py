"""What is measured is the model's own surprisal, window by window, on the half that it should be."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import everlong
from everlong.core.errors import DataError
from everlong.data import ByteCodec
from everlong.lab.metrics import (
    MODES,
    SHOWN,
    HeldOut,
    Scored,
    Trained,
    by_document,
    by_position,
    choose,
    half_of,
    observed,
    score,
    whole_windows,
)
from everlong.train.learner import training

WINDOW = 16
ALL = HeldOut(bytes=10**9, document_bytes=10**9)


@pytest.fixture(scope="module")
def store(study):
    return study.data.open(ByteCodec()).validation


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return everlong.build("transformer:nano", layers=1, width=16, heads=1).eval()


def test_the_halves_are_disjoint_and_whole(store):
    selection, reported = (choose(store, half, ALL) for half in ("selection", "reported"))
    assert sorted(selection + reported) == list(range(len(store)))
    assert {half_of(store.hashes[i]) for i in selection} == {"selection"}
    assert {half_of(store.hashes[i]) for i in reported} == {"reported"}


def test_as_many_documents_as_asked_for(store):
    held_out = HeldOut(bytes=500, document_bytes=100)
    chosen = choose(store, "reported", held_out)
    sizes = np.minimum(store.byte_counts[chosen], 100)
    assert sizes.sum() >= 500 > sizes[:-1].sum()
    assert chosen == choose(store, "reported", ALL)[: len(chosen)]


def test_too_few_documents_are_refused(store, monkeypatch):
    monkeypatch.setattr("everlong.lab.metrics.half_of", lambda digest: "selection")
    with pytest.raises(DataError, match="hold out more"):
        choose(store, "reported", ALL)


@torch.no_grad()
def test_bits_are_those_of_each_window_alone(store, model):
    """An oracle in float64: every window by itself, its targets one by one."""
    held_out = HeldOut(bytes=600, document_bytes=70, batch=3)
    exact, bits_D, bytes_D = model.double(), [], []
    for i in choose(store, "reported", held_out):
        ids, bits = store.document(i)[:71].astype(np.int64), 0.0
        for start in range(0, len(ids) - 1, WINDOW):
            piece = torch.from_numpy(ids[start : start + WINDOW + 1])
            log_TV = exact(piece[None, :-1]).logits[0].log_softmax(-1)
            bits -= float(log_TV.gather(1, piece[1:, None]).sum()) / math.log(2)
        bits_D.append(bits)
        bytes_D.append(int((ids[1:] < 256).sum()))
    scored = score(model.float(), store, "reported", WINDOW, held_out)
    found = by_document(scored)
    assert found["bytes"] == bytes_D
    assert found["bits"] == pytest.approx(bits_D, rel=1e-4)
    assert scored.bits_per_byte == pytest.approx(sum(bits_D) / sum(bytes_D), rel=1e-5)


def test_positions_hold_every_byte_once(store, model):
    scored = score(model, store, "reported", WINDOW, ALL)
    found = by_position(scored)
    assert found["ends"][-1] == WINDOW
    assert sum(found["bytes"]) == scored.bytes_NT.sum()


def test_positions_are_places_in_the_window():
    bits_NT = np.array([[4.0, 2.0, 1.0, 3.0], [8.0, 2.0, 0.0, 0.0], [7.0, 0.0, 0.0, 0.0]])
    bytes_NT = np.array([[1, 1, 1, 1], [1, 1, 0, 0], [0, 0, 0, 0]])  # the last holds the end of a document only
    found = by_position(Scored(bits_NT, bytes_NT, np.array([0, 0, 1])))
    assert found == {"ends": [1, 2, 4], "bytes": [2, 2, 2], "bits_per_byte": [6.0, 2.0, 2.0]}


def test_a_document_weighs_no_more_than_it_may(store, model):
    found = by_document(score(model, store, "selection", WINDOW, HeldOut(document_bytes=50)))
    assert max(found["bytes"]) == 50


def test_whole_windows_are_those_that_no_end_cuts(store, model):
    """Every id is a byte or the beginning of a document, and there are as many as asked for or as there are."""
    held_out = HeldOut(bytes=10**9, document_bytes=70)
    trained = Trained(model, score(model, store, "reported", WINDOW, held_out), store, WINDOW, held_out, None)
    found = whole_windows(trained)
    lengths = [min(71, len(store.document(i))) - 1 for i in choose(store, "reported", held_out)]
    assert found.shape == (min(SHOWN, sum(length // WINDOW for length in lengths)), WINDOW)
    first = store.document(choose(store, "reported", held_out)[0])
    assert found[0].tolist() == first[:WINDOW].tolist()
    with pytest.raises(DataError, match="all shorter than a window"):
        whole_windows(Trained(model, trained.reported, store, 1000, held_out, None))


@torch.no_grad()
def test_what_parts_show_is_told_as_they_stream_and_as_they_train():
    """Against one call of all windows in each mode: routed positions, agreement of the rule, surprisal."""
    torch.manual_seed(1)
    model = everlong.build("mod:nano", layers=4, width=16, heads=1)
    ids_NT = torch.randint(0, 256, (7, WINDOW))
    found = observed(model, ids_NT.numpy(), batch=3)
    assert not model.training
    streaming, trained = (found[mode] for mode in MODES)
    routed = model(ids_NT).observed["depths/routed"]
    with training(model):
        best = model(ids_NT)
    assert streaming["depths/routed, 2 of 2"] == pytest.approx(float(routed[1].double().mean()))
    assert trained["depths/routed, 2 of 2"] == pytest.approx(2 / WINDOW)
    agrees_NT = best.observed["depths/accuracy"][0]
    assert trained["depths/accuracy, 1 of 2"] == pytest.approx(float(agrees_NT.double().mean()))
    assert "depths/accuracy, 1 of 2" not in streaming
    log_NTV = best.logits[:, :-1].double().log_softmax(-1)
    bits = -float(log_NTV.gather(2, ids_NT[:, 1:, None]).mean()) / math.log(2)
    assert trained["bits per token"] == pytest.approx(bits, rel=1e-5)
