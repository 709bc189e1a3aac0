"""The passkey study: what its texts hold, and that its ablations ablate."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from everlong.core.errors import ConfigError
from studies import passkey, passkey_report
from studies.passkey import Settings, Stage, measure, model_of, train
from studies.passkey_texts import HAY, MARK, QUERY, VOCABULARY, Haystack, Recipe, Texts, texts

SHORT = (Stage(steps=2, segments=(2, 3), learning_rate=1e-3, tokens=256, symbols=0.1),)


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
        assert places[0] + len(question) < 5000 - 5000 % settings.segment
        assert all(t // settings.segment == (t + len(question)) // settings.segment for t in marks)
        if depth is not None:
            assert abs(places[0] / 5000 - depth) < 0.01


@pytest.mark.parametrize(("keys", "segments", "taught"), [(1, 2, 2), (2, 2, 2), (3, 3, 4), (4, 3, 4), (16, 9, 16)])
def test_texts_have_room_for_their_keys(keys: int, segments: int, taught: int) -> None:
    """Two go into a segment, and two questions; training draws none that is too short, and none can be asked for."""
    settings, stage = Settings(keys=keys), Stage(1, segments=(2, 16), learning_rate=1e-3, tokens=256, symbols=0.0)
    assert min(passkey._batch(settings, stage, step).length for step in range(30)) == taught * 16
    assert (drawn(settings, segments * 16, [None]).ids(0, segments * 16) == MARK).sum() == keys
    with pytest.raises(ConfigError, match=f"must be above {segments * 16 - 16}, to hold what is asked behind {keys} "):
        drawn(settings, segments * 16 - 16, [None])


@pytest.mark.parametrize("keys", [2, 3, 4])
def test_training_asks_for_every_key(keys: int) -> None:
    """Each once, with its own digits, behind all of them."""
    batch = texts(Settings(keys=keys).lessons(), 160, [None] * 20, (1,))
    for row, answer in zip(batch.ids(0, 160).tolist(), batch.answer_BA.tolist(), strict=True):
        said, asked = ([t for t, symbol in enumerate(row) if symbol == mark] for mark in (MARK, QUERY))
        assert max(said) + 6 <= 160 - 16 * (1 + (keys > 2)) <= min(asked)
        assert sorted(row[t + 1 : t + 6] for t in said) == sorted(row[t + 1 : t + 6] for t in asked)
        assert [row[t + 2 + i] for t in asked for i in range(4)] == answer
    with pytest.raises(ConfigError, match="must be a multiple of 16 where several keys are asked for"):
        texts(Settings(keys=keys).lessons(), 167, [None], (1,))


@pytest.mark.parametrize(("keys", "names"), [(4, 4), (4, 8), (4, 16), (8, 4)])
def test_names_are_some_of_the_first(keys: int, names: int) -> None:
    """Any of as many as a stage has, and never fewer than there are keys."""
    settings, stage = Settings(keys=keys), Stage(1, (8, 16), learning_rate=1e-3, tokens=4096, symbols=0.0, names=names)
    ids_BT = (batch := passkey._batch(settings, stage, 0)).ids(0, batch.length)
    assert set(ids_BT[ids_BT > QUERY].tolist()) == {QUERY + 1 + i for i in range(max(keys, names))}


def test_names_are_neither_fewer_than_keys_nor_more_than_there_are() -> None:
    for keys, names in ((4, 3), (4, 17)):
        with pytest.raises(ConfigError, match=r"names .*must be 4, as there are keys, to 16"):
            Recipe("repetitive", keys, 16, names=names)
    with pytest.raises(ConfigError, match=r"keys .*must be 1 to 16, as there are names"):
        Settings(keys=17).lessons()


def test_hidden_digits_are_learnt_and_not_read() -> None:
    """About half of those of the questions, and nothing else."""
    batch = texts(Settings(keys=4).lessons(), 160, [None] * 20, (1,))
    ids_BT, read = batch.ids(0, 160), []
    model = model_of(Settings(keys=4))
    model.register_forward_pre_hook(lambda _, arguments: read.append(arguments[0]))
    losses = [passkey._loss(model, batch, 0.0, hidden)[0].item() for hidden in (None, np.random.default_rng(0))]
    assert losses[0] != losses[1]
    shown_BT, hidden_BT = (each != ids_BT[:, :-1] for each in read)
    assert not shown_BT.any()
    answer_BT = torch.zeros_like(ids_BT, dtype=torch.bool).index_fill(1, torch.from_numpy(batch.answer_A), True)[:, :-1]
    assert abs(hidden_BT[answer_BT].float().mean() - 0.5) < 0.1
    assert not hidden_BT[~answer_BT].any()


@pytest.mark.parametrize(("keys", "hides"), [(1, False), (2, True)])
def test_training_hides_digits_of_several_keys(keys: int, hides: bool) -> None:
    """One key's tell nothing else, and are all read."""
    model = model_of(settings := Settings(keys=keys, stages=SHORT, width=16))
    marks = []
    model.register_forward_pre_hook(lambda _, arguments: marks.append((arguments[0] == QUERY).sum(-1)))
    list(train(settings, model))
    assert all((marks_B == keys).all() for marks_B in marks) is not hides


def test_stages_are_those_for_the_keys_if_none_are_given() -> None:
    assert Settings().training == passkey.ONE_KEY
    assert Settings(keys=2).training == passkey.SEVERAL_KEYS
    assert Settings(keys=2, stages=SHORT).training == SHORT


def test_a_random_haystack_does_not_repeat() -> None:
    ids_T = drawn(Settings(haystack="random"), 6000, [0.5]).ids(0, 6000)[0].numpy()
    assert not np.array_equal(ids_T[:2048], ids_T[2048:4096])
    assert (np.bincount(ids_T)[:HAY] > 150).all()


def test_ablations() -> None:
    """Each changes what it is named after, and nothing else."""
    batch = drawn(Settings(), 128, [0.0] * 4)
    for ablation in ("none", "detached", "dead-gate"):
        model = model_of(Settings(ablation=ablation))
        loss, _ = passkey._loss(model, batch, 0.1)
        loss.backward()
        part = passkey._parts(model)[-1]
        assert part.k.weight.grad is not None
        share = torch.sigmoid(part.gate)
        assert (share < 1e-4).all() == (ablation == "dead-gate")
    assert passkey._parts(model_of(Settings(ablation="slow-gate")))[0].hints["gate"].learning_rate == 0.01


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
        ids_BT = drawn(Settings(), 96, [0.0]).ids(0, 96)
        model(ids_BT).logits[0, 80].sum().backward()
        gradient = model.embedding.weight.grad
        assert gradient is not None
        assert bool(gradient[MARK].any()) == reaches


def test_streaming_is_measured_as_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(rows=3, width=16)  # 9 texts, of three depths
    model = model_of(settings).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
    one = measure(settings, model, 160)
    monkeypatch.setattr(passkey, "CHUNK", 32 * 9)
    assert measure(settings, model, 160) == one


def test_lengths_are_drawn_evenly_by_their_logarithm() -> None:
    """All numbers of segments between the two, as many short of their geometric mean as beyond it."""
    stage = Stage(steps=1, segments=(2, 32), learning_rate=1e-3, tokens=2048, symbols=0.0)
    lengths = np.array([passkey._batch(Settings(), stage, step).length for step in range(600)]) // Settings().segment
    assert (lengths.min(), lengths.max()) == (2, 32)
    assert abs((lengths < 8).mean() - (lengths > 8).mean()) < 0.1


@pytest.mark.parametrize(("keys", "share"), [(1, 1 / 8), (2, 0)])
def test_the_place_of_a_key_does_not_tell_that_it_is_asked_for(keys: int, share: float) -> None:
    """A single one stands at the very start of an eighth of the texts of training; of two, hardly ever."""
    settings, stage = Settings(keys=keys), Stage(1, segments=(64, 64), learning_rate=1e-3, tokens=4096, symbols=0.0)
    ids_BT = torch.cat([passkey._batch(settings, stage, step).ids(0, 1024) for step in range(100)])
    question_BA = ids_BT[:, -4 - (keys > 1) :]
    at_start_B = (ids_BT[:, 1 : 1 + question_BA.shape[1]] == question_BA).all(-1)
    assert abs(at_start_B.float().mean() - share) < 0.05


def test_texts_are_as_many_as_are_asked_for() -> None:
    """Fewer where they are long, and one at least."""
    settings = Settings(width=16, rows=5, read=300)
    model = model_of(settings).eval()
    assert [measure(settings, model, length)["rows"] for length in (50, 128, 400)] == [5, 2, 1]


def test_a_run_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passkey.sys, "argv", ["passkey", "--update", "delta"])
    path = passkey.main(Settings(update="delta", stages=SHORT, lengths=(64,), rows=2, width=16, out=tmp_path))
    kept = json.loads(path.read_text())
    assert path.name == "delta-seed0.json"
    assert kept["command"] == "python -m studies.passkey --update delta"
    assert kept["curve"][-1]["step"] == 2
    assert kept["compressive_floats"] == 2 * 4 * 4 * 5
    assert set(kept["accuracy"][0]["digits"]) == {"start", "middle", "end"}


def test_the_report_is_made_from_kept_runs_alone(tmp_path: Path) -> None:
    """Means over depths, by length; what is not as usual is named; ablations stand apart."""
    small = {"stages": SHORT, "lengths": (64, 128), "rows": 2, "width": 16, "out": tmp_path}
    paths = [
        passkey.main(Settings(update="delta", **small)),
        passkey.main(Settings(update="linear", keys=2, **small)),
        passkey.main(Settings(update="delta", ablation="dead-gate", **small)),
    ]
    text = passkey_report.write(tmp_path).read_text()
    for path, name in zip(paths, ("delta", "linear, 2 keys", "delta, dead-gate"), strict=True):
        digits = json.loads(path.read_text())["accuracy"][1]["digits"].values()
        (row,) = [line for line in text.splitlines() if line.startswith(f"| {name} |") and " to " in line]
        assert f"{sum(digits) / 3:.1%}" in row.split("|")[3]
    assert text.index("## Ablations") > text.index("| linear, 2 keys |")
    assert "longest text of training has 48 symbols" in text
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {"lengths.svg", "gates-delta.svg"}


def test_seeds_are_told_each_and_together(tmp_path: Path) -> None:
    """The texts of all seeds count alike, also where one was measured on more of them; gates are those of the first."""
    small = {"update": "delta", "stages": SHORT, "lengths": (64,), "width": 16, "out": tmp_path}
    runs = [json.loads(passkey.main(Settings(seed=i, rows=2 * i + 1, **small)).read_text()) for i in (0, 1)]
    rows = passkey_report.write(tmp_path).read_text().splitlines()
    shares = [float(np.mean(list(run["accuracy"][0]["digits"].values()))) for run in runs]
    for name, share in zip(
        ("delta", "delta, seed 1", "delta, all seeds"), (*shares, (shares[0] + 3 * shares[1]) / 4), strict=True
    ):
        (row,) = [line for line in rows if line.startswith(f"| {name} |") and " to " in line]
        assert f"{share:.1%}" in row.split("|")[2]
