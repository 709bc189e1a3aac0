"""The loop: what goes wrong is skipped or stops it, and callbacks hear of everything."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import numpy as np
import pytest
import torch

from everlong.core.errors import CheckpointError, ConfigError, TrainingError
from everlong.data import Batch, Loader
from everlong.model.language_model import LanguageModel
from everlong.train import Callback, Checkpoints, Cosine, Result, Step, Trainer
from everlong.train.randomness import random_tensors, random_values, restore_random, seed_all


class Steps(Callback):
    """Remembers every step."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.heard = 0
        self.ends: list[Result | None] = []

    def on_step(self, step):
        self.steps.append(step)
        self.heard += 1

    def on_end(self, result):
        self.ends.append(result)

    def state_dict(self):
        return {"heard": self.heard}

    def load_state_dict(self, state):
        self.heard = state["heard"]


class Without(Loader):
    """A loader that leaves out some batches."""

    def __init__(self, like: Loader, dropped: set[int]) -> None:
        super().__init__(like.store, window=like.window, batch=like.batch, seed=like.seed, carry=like.carry)
        self.dropped, self.place = dropped, 0

    def __next__(self) -> Batch:
        while True:
            batch, place = super().__next__(), self.place
            self.place += 1
            if place not in self.dropped:
                return batch


def spoil(model: LanguageModel, calls: set[int], bad: float) -> None:
    """Makes the logits of some calls useless."""
    count = iter(range(10**6))
    model.head.register_forward_hook(lambda *_: _[-1] * bad if next(count) in calls else _[-1])


def state(model: torch.nn.Module) -> list[bytes]:
    return [tensor.numpy().tobytes() for tensor in model.state_dict().values()]


@pytest.fixture
def model(small) -> Callable[..., LanguageModel]:
    """Builds the same model again and again."""

    def make(family: str = "transformer") -> LanguageModel:
        torch.manual_seed(0)
        return small(family)

    return make


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize(("family", "carry"), [("transformer", False), ("linear", True)])
def test_a_skipped_step_is_as_though_its_batch_had_not_been(family, carry, bad, model, settings, load):
    config, skipped = settings(carry=carry), {1, 4}
    spoiled, steps = model(family), Steps()
    spoil(spoiled, skipped, bad)
    result = Trainer(config, spoiled, load(config), callbacks=[steps]).run()
    plain = model(family)
    reference = Trainer(config, plain, Without(load(config), skipped)).run()
    assert state(spoiled) == state(plain)
    assert (result.step, result.bad_steps, reference.bad_steps) == (config.steps, 2, 0)
    assert result.bytes_seen == reference.bytes_seen
    assert result.loss == reference.loss
    assert [i for i, step in enumerate(steps.steps) if step.skipped] == sorted(skipped)


def test_training_stops_when_nothing_is_finite_any_more(model, settings, load, tmp_path):
    config, spoiled, steps = settings(max_bad_steps=3), model(), Steps()
    spoil(spoiled, {1, 2, 4, 5, 6}, math.nan)
    checkpoints = Checkpoints(tmp_path, config, keep=2)
    with pytest.raises(TrainingError, match="3 steps in a row"):
        Trainer(config, spoiled, load(config), callbacks=[steps], checkpoints=checkpoints).run()
    assert [step.skipped for step in steps.steps] == [False, True, True, False, True, True, True]
    assert steps.ends == [None]
    assert all(tensor.isfinite().all() for tensor in spoiled.state_dict().values())
    resumed = Trainer(config, model(), load(config), checkpoints=checkpoints)
    resumed.resume()
    assert state(resumed.model) == state(spoiled)
    assert resumed.progress.step == 2


def test_the_last_good_weights_are_saved_between_checkpoints(model, settings, load, tmp_path):
    config, spoiled = settings(max_bad_steps=2, checkpoint_every=None), model()
    spoil(spoiled, {3, 4}, math.inf)
    checkpoints = Checkpoints(tmp_path, config, keep=2)
    with pytest.raises(TrainingError):
        Trainer(config, spoiled, load(config), checkpoints=checkpoints).run()
    assert checkpoints.steps() == [3]


def test_the_schedule_is_followed(model, settings, load):
    config, steps = settings(schedule=Cosine(warmup=0.5)), Steps()
    Trainer(config, model(), load(config), callbacks=[steps]).run()
    rate = config.optimizer.learning_rate
    expected = [rate / 3, rate * 2 / 3, rate, rate, rate * 0.75, rate * 0.25]
    assert [step.learning_rate for step in steps.steps] == pytest.approx(expected)


def test_callbacks_remember_through_checkpoints(model, settings, load, tmp_path):
    config = settings()
    checkpoints = Checkpoints(tmp_path, config, keep=2)
    first, second = Steps(), Steps()
    trainer = Trainer(config, model(), load(config), callbacks=[first], checkpoints=checkpoints)
    for _ in range(3):
        first.on_step(trainer.advance())
    trainer.save()
    resumed = Trainer(config, model(), load(config), callbacks=[second], checkpoints=checkpoints)
    resumed.resume()
    resumed.run()
    assert len(second.steps) == 3
    assert second.heard == 6
    assert second.ends[0] is not None


def test_counts_agree(model, settings, load):
    config, steps = settings(), Steps()
    result = Trainer(config, model(), load(config), callbacks=[steps]).run()
    loader = load(config)
    batches = [next(loader) for _ in range(config.steps)]
    assert result.bytes_seen == sum(batch.byte_count for batch in batches) == steps.steps[-1].bytes_seen
    assert [step.targets for step in steps.steps] == [batch.learnt for batch in batches]
    assert result.seconds >= sum(step.seconds for step in steps.steps)
    assert 0 < result.compute_share < 1
    last = steps.steps[-2:]  # log_every is 2
    bits = sum(step.nats for step in last) / math.log(2) / sum(step.bytes for step in last)
    assert result.loss == pytest.approx(bits)


def test_a_finished_run_is_not_run_again(model, settings, load, tmp_path):
    config = settings()
    checkpoints = Checkpoints(tmp_path, config, keep=1)
    first = Trainer(config, model(), load(config), checkpoints=checkpoints).run()
    again = Trainer(config, model(), load(config), checkpoints=checkpoints)
    again.resume()
    result = again.run()
    assert (result.step, result.loss, result.bytes_seen) == (first.step, first.loss, first.bytes_seen)


def test_another_corpus_is_refused(model, settings, load, tmp_path):
    config = settings()
    checkpoints = Checkpoints(tmp_path, config, keep=1)
    Trainer(config, model(), load(config), checkpoints=checkpoints).run()
    other = Trainer(config, model(), load(settings(seed=1)), checkpoints=checkpoints)
    with pytest.raises(CheckpointError) as caught:
        other.resume()
    assert caught.value.field == "loader.seed"


def test_recomputing_trains_the_same(model, settings, load):
    outcomes = []
    for recompute in (False, True):
        config, trained = settings(recompute=recompute), model()
        Trainer(config, trained, load(config)).run()
        outcomes.append(state(trained))
    assert outcomes[0] == outcomes[1]


def test_every_generator_is_put_back():
    def draw() -> tuple[float, float, float]:
        return random.random(), float(np.random.random()), torch.rand(()).item()

    seed_all(3)
    random.gauss(0, 1)  # which keeps a second number for later
    tensors, values = random_tensors(), random_values()
    first = (*draw(), random.gauss(0, 1), float(np.random.standard_normal()))
    draw()
    restore_random(tensors, values)
    assert (*draw(), random.gauss(0, 1), float(np.random.standard_normal())) == first


@pytest.mark.parametrize("name", ["window", "batch", "carry"])
def test_the_loader_must_be_the_configured_one(name, model, settings, load):
    other = settings(**{name: {"window": 8, "batch": 2, "carry": True}[name]})
    with pytest.raises(ConfigError) as caught:
        Trainer(settings(), model(), load(other))
    assert caught.value.field == f"loader.{name}"


@pytest.mark.parametrize(
    "change",
    [
        {"steps": 0},
        {"window": 0},
        {"batch": 0},
        {"accumulation": 3},
        {"accumulation": 0},
        {"clip": 0.0},
        {"clip": math.nan},
        {"precision": "float16"},
        {"seed": -1},
        {"checkpoint_every": 0},
        {"keep": 0},
        {"log_every": 0},
        {"evaluate_every": 0},
        {"evaluate_windows": 0},
        {"max_bad_steps": 0},
    ],
    ids=lambda change: "-".join(change),
)
def test_impossible_settings_are_refused(change, settings):
    with pytest.raises(ConfigError) as caught:
        settings(**change)
    assert caught.value.field == f"trainer.{next(iter(change))}"
