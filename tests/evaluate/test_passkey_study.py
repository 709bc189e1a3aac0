"""The passkey study: what its texts hold, and that its ablations ablate."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from studies import passkey
from studies.passkey import Settings, Stage, measure, model_of, train
from studies.passkey_texts import HAY, MARK, QUERY, VOCABULARY, Haystack, Texts, texts

SHORT = (Stage(steps=2, segments=(2, 3), learning_rate=1e-3, tokens=256),)


def drawn(settings: Settings, length: int, depths: list[float | None]) -> Texts:
    return texts(settings.recipe, length, depths, (1,))


@pytest.mark.parametrize("keys", [1, 5])
@pytest.mark.parametrize("haystack", ["repetitive", "random"])
def test_texts(keys: int, haystack: Haystack) -> None:
    """The question's digits stand behind its key, before the last segment, once; a text is the same in any pieces."""
    settings = Settings(keys=keys, haystack=haystack)
    depths = [0.0, 0.5, 1.0, None, None]
    found = drawn(settings, 5000, depths)
    whole_BT = found.ids(0, 5000)
    pieces = [found.ids(begin, end) for begin, end in ((0, 3), (3, 2048), (2048, 4999), (4999, 5000))]
    assert torch.equal(torch.cat(pieces, 1), whole_BT)
    assert whole_BT.max() < VOCABULARY
    for depth, row, answer in zip(depths, whole_BT.tolist(), found.answer_BA.tolist(), strict=True):
        asked = row.index(QUERY)
        question = row[asked + 1 :]
        assert question[-4:] == answer
        marks = [t for t, symbol in enumerate(row) if symbol == MARK]
        places = [t for t in marks if row[t + 1 : t + 1 + len(question)] == question]
        assert len(marks) == keys
        assert len(places) == 1
        assert places[0] + len(question) < 5000 - settings.segment
        if depth is not None:
            assert abs(places[0] / 5000 - depth) < 0.01


def test_a_random_haystack_does_not_repeat() -> None:
    ids_T = drawn(Settings(haystack="random"), 6000, [0.5]).ids(0, 6000)[0].numpy()
    assert not np.array_equal(ids_T[:2048], ids_T[2048:4096])
    assert (np.bincount(ids_T)[:HAY] > 150).all()


def test_ablations() -> None:
    """Each changes what it is named after, and nothing else."""
    batch = drawn(Settings(), 64, [0.0] * 4)
    for ablation in ("none", "detached", "dead-gate"):
        model = model_of(Settings(ablation=ablation))
        loss, _ = passkey._loss(model, batch)
        loss.backward()
        part = passkey._parts(model)[-1]
        assert part.k.weight.grad is not None
        share = torch.sigmoid(part.gate)
        assert (share < 1e-4).all() == (ablation == "dead-gate")
    assert passkey._parts(model_of(Settings(ablation="slow-gate")))[0].hints["gate"].learning_rate == 1


@pytest.mark.parametrize("ablation", ["none", "decayed-gate"])
def test_gates_decay_where_they_are_made_to(ablation: passkey.Ablation) -> None:
    """Towards a half, from far away, when nothing else pulls."""
    torch.manual_seed(0)
    model = model_of(settings := Settings(ablation=ablation, stages=SHORT, warm_up=1))
    before = [part.gate.data.fill_(40.0).clone() for part in passkey._parts(model)]
    list(train(settings, model))
    moved = [(part.gate < gate - 0.01).all().item() for part, gate in zip(passkey._parts(model), before, strict=True)]
    assert moved == [ablation == "decayed-gate"] * 2


def test_detached_memories_are_detached() -> None:
    """What is written in the first segment has no gradient from the third."""
    for ablation, reaches in (("none", True), ("detached", False)):
        model = model_of(Settings(ablation=ablation, layers=1))
        ids_BT = drawn(Settings(), 48, [0.0]).ids(0, 48)
        model(ids_BT).logits[0, 40].sum().backward()
        gradient = model.embedding.weight.grad
        assert gradient is not None
        assert bool(gradient[MARK].any()) == reaches


def test_streaming_is_measured_as_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(rows=3, width=16)
    model = model_of(settings).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
    one = measure(settings, model, 160)
    monkeypatch.setattr(passkey, "CHUNK", 32)
    assert measure(settings, model, 160) == one


def test_a_run_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passkey.sys, "argv", ["passkey", "--update", "delta"])
    path = passkey.main(Settings(update="delta", stages=SHORT, lengths=(64,), rows=2, width=16, out=tmp_path))
    kept = json.loads(path.read_text())
    assert path.name == "delta-seed0.json"
    assert kept["command"] == "python -m studies.passkey --update delta"
    assert kept["curve"][-1]["step"] == 2
    assert kept["compressive_floats"] == 2 * 4 * 4 * 5
    assert set(kept["accuracy"][0]["digits"]) == {"start", "middle", "end"}
