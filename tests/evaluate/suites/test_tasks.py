"""Tasks on token ids: what is asked, exact resumption, and that small models learn them."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import everlong
from everlong.core.errors import CheckpointError, ConfigError, ContextError
from everlong.data import IGNORED, Batches, ByteCodec
from everlong.evaluate.suites import (
    SUITES,
    AssociativeRecall,
    CopyingTask,
    InductionTask,
    SelectiveCopyingTask,
    TaskLoader,
    TextTask,
    accuracy,
)
from everlong.train import AdamW, Trainer

TASKS = {
    "recall": AssociativeRecall(pairs=4, vocabulary=64),
    "copying": CopyingTask(data=5),
    "selective": SelectiveCopyingTask(data=5),
    "induction": InductionTask(),
    "text": TextTask(SUITES["recall"], ByteCodec()),
}
WINDOW = 128


def drawn(task, rows=16, window=WINDOW, seed=0):
    return task.draw(np.random.Generator(np.random.PCG64(seed)), rows, window)


def oracle_recall(ids_T, vocabulary, pairs):
    """What stands behind a key among the pairs."""
    held = dict(zip(ids_T[: 2 * pairs : 2], ids_T[1 : 2 * pairs : 2], strict=True))
    return lambda t: held[ids_T[t]]


def oracle_copying(ids_T, vocabulary, pairs):
    """All that is neither noise nor marker, in order."""
    data = [i for i in ids_T if 0 < i < vocabulary - 1]
    first = list(ids_T).index(vocabulary - 1)
    return lambda t: data[t - first]


def oracle_induction(ids_T, vocabulary, pairs):
    return lambda t: ids_T[list(ids_T).index(vocabulary - 1) + 1]


ORACLES = {
    "recall": oracle_recall,
    "copying": oracle_copying,
    "selective": oracle_copying,
    "induction": oracle_induction,
}


@pytest.mark.parametrize("name", ORACLES)
@pytest.mark.parametrize("window", [16, 17, WINDOW])
def test_targets_follow_from_what_stands_before_them(name, window):
    task = TASKS[name]
    ids_BT, targets_BT = drawn(task, window=window)
    due = {"recall": 4, "copying": 5, "selective": 5, "induction": 1}[name]
    assert ids_BT.min() >= 0
    assert ids_BT.max() < task.vocabulary
    for ids_T, targets_T in zip(ids_BT, targets_BT, strict=True):
        places = np.flatnonzero(targets_T != IGNORED)
        assert len(places) == due
        answer = ORACLES[name](ids_T, task.vocabulary, 4)
        assert [targets_T[t] for t in places] == [answer(t) for t in places]


def test_recall_is_asked_for_with_published_gaps():
    """Small powers ask early: weights are (g + 1)**(a - 1), which are equal for a = 1."""

    def first(power):
        _, targets_BT = drawn(AssociativeRecall(pairs=4, vocabulary=64, power=power), rows=400)
        return np.argmax(targets_BT != IGNORED, axis=1).mean()

    assert first(0.01) < 12 < 15 < first(1.0)


def test_keys_and_values_are_different_ids():
    ids_BT, targets_BT = drawn(TASKS["recall"], rows=50)
    pairs = ids_BT[:, :8].reshape(50, 4, 2)
    assert (pairs[..., 0] < 32).all()
    assert (pairs[..., 0] > 0).all()
    assert (pairs[..., 1] >= 32).all()
    assert all(len(set(row)) == 8 for row in pairs.reshape(50, 8).tolist())
    assert (targets_BT[targets_BT != IGNORED] >= 32).all()


def test_a_suite_in_text_asks_for_its_answers():
    codec = ByteCodec()
    ids_BT, targets_BT = drawn(TASKS["text"], rows=3)
    for ids_T, targets_T in zip(ids_BT, targets_BT, strict=True):
        text = codec.decode(ids_T).decode()
        held = dict(pair.split(" ") for pair in text.split("\n")[0].strip(", ").split(", "))
        again = text.split("Again: ")[1].strip(",").split(", ")
        assert all(held[key] == value for key, value in (pair.split(" ") for pair in again))
        said = codec.decode(targets_T[targets_T != IGNORED])
        assert said == "".join(f" {pair.split(' ')[1]}," for pair in again).encode()
        places = np.flatnonzero(targets_T != IGNORED)
        assert (ids_T[places + 1] == targets_T[places]).all()


@pytest.mark.parametrize("name", TASKS)
def test_a_loader_resumes_exactly(name):
    loader = TaskLoader(TASKS[name], window=WINDOW, batch=3, seed=7)
    assert isinstance(loader, Batches)
    next(loader)
    state = json.loads(json.dumps(loader.state_dict()))
    following = [next(loader) for _ in range(3)]
    other = TaskLoader(TASKS[name], window=WINDOW, batch=3, seed=7)
    other.load_state_dict(state)
    for batch in following:
        again = next(other)
        assert torch.equal(again.ids_BT, batch.ids_BT)
        assert torch.equal(again.targets_BT, batch.targets_BT)
    assert not torch.equal(following[0].ids_BT, following[1].ids_BT)


def test_bytes_are_those_of_answers():
    text = next(TaskLoader(TASKS["text"], window=WINDOW, batch=2, seed=0))
    assert text.byte_count == 2 * 4 * len(" 12,")
    ids = next(TaskLoader(TASKS["copying"], window=WINDOW, batch=2, seed=0))
    assert ids.byte_count == ids.learnt == 2 * 5


@pytest.mark.parametrize(
    "change", [{"task": "another"}, {"window": 5}, {"seed": 1}, {"step": -1}, {"step": "1"}, {"step": None}]
)
def test_a_state_of_something_else_is_refused(change):
    loader = TaskLoader(TASKS["induction"], window=WINDOW, batch=3, seed=0)
    with pytest.raises(CheckpointError, match=next(iter(change))):
        loader.load_state_dict(loader.state_dict() | change)


@pytest.mark.parametrize(
    ("name", "least"), [("recall", 16), ("copying", 10), ("selective", 10), ("induction", 3), ("text", None)]
)
def test_windows_that_are_too_short_are_told(name, least):
    with pytest.raises(ContextError, match=f"smallest is {least}" if least else "smallest length is"):
        drawn(TASKS[name], window=2)
    if least:
        drawn(TASKS[name], window=least)


@pytest.mark.parametrize(
    "make",
    [
        lambda: AssociativeRecall(pairs=0),
        lambda: AssociativeRecall(pairs=40, vocabulary=64),
        lambda: AssociativeRecall(pairs=4, power=0.0),
        lambda: CopyingTask(vocabulary=3),
        lambda: CopyingTask(data=0),
        lambda: InductionTask(vocabulary=3),
        lambda: TaskLoader(InductionTask(), window=0, batch=1, seed=0),
    ],
)
def test_settings_that_make_no_task(make):
    with pytest.raises(ConfigError):
        make()


@pytest.mark.parametrize("name", TASKS)
def test_an_untrained_model_is_at_chance(name):
    task = TASKS[name]
    model = everlong.build("transformer:nano", layers=1, width=32, heads=2, vocabulary=task.vocabulary).eval()
    found = accuracy(model, task, window=WINDOW, rows=64, batch=32, seed=1)
    assert found < task.chance + 4 * np.sqrt(task.chance / 64) + 0.02


def learnt(family: str, task, steps: int, window: int = 32) -> float:
    torch.manual_seed(0)
    model = everlong.build(f"{family}:nano", layers=2, width=64, heads=2, vocabulary=task.vocabulary)
    optimizer = AdamW.Config(learning_rate=3e-3, weight_decay=0.0)
    config = Trainer.Config(steps=steps, window=window, batch=64, optimizer=optimizer, precision="float32")
    Trainer(config, model, TaskLoader(task, window=window, batch=64, seed=0)).run()
    return accuracy(model.eval(), task, window=window, rows=512, batch=64, seed=10**6)


def test_a_trainer_takes_a_task():
    assert learnt("linear", CopyingTask(data=1, vocabulary=5), steps=60, window=6) > 0.6


@pytest.mark.slow
@pytest.mark.parametrize("family", ["transformer", "linear"])
@pytest.mark.parametrize("name", ["recall", "induction"])
def test_small_models_learn_small_tasks(family, name):
    assert learnt(family, TASKS[name], steps=1200) > 5 * TASKS[name].chance
