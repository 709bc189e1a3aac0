"""One step: cutting batches, carrying streams, recomputing blocks and losing numbers change only what they should."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from everlong.core.part import Part
from everlong.core.state import detach
from everlong.model.language_model import LanguageModel
from everlong.model.stack import Block
from everlong.train import recompute
from everlong.train.learner import Learner
from everlong.train.recompute import recomputed


class Reporter(Part):
    """Passes its input on, and asks for small outputs through a loss of its own."""

    class Config(Part.Config):
        pass

    def __init__(self, config: Reporter.Config) -> None:
        super().__init__()
        self.mix = torch.nn.Linear(config.width, config.width, bias=False)

    def forward(self, x_BTD, span, state=None):
        y_BTD = self.mix(x_BTD)
        span.report("size", y_BTD.square().mean())
        span.observe("outputs", y_BTD.square())
        return y_BTD, None

    def flops(self, T: int) -> int:
        return 2 * T * self.mix.in_features**2

    def state_bytes(self, T: int) -> int:
        return 0


def gradients(model: LanguageModel) -> dict[str, Tensor]:
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def weights(model: LanguageModel) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def batch_with_borders(loader):
    """A batch whose rows have different numbers of learnt targets."""
    return next(b for b in loader if len(set((b.targets_BT >= 0).sum(1).tolist())) > 1)


def test_loss_is_the_mean_over_all_learnt_targets(small, settings, load):
    model, batch = small().double(), batch_with_borders(load(settings()))
    nats = Learner(settings(), model).differentiate(batch).nats
    got = gradients(model)
    model.zero_grad()
    logits = model(batch.ids_BT, documents=batch.documents_BT).logits
    loss = F.cross_entropy(logits.flatten(0, 1), batch.targets_BT.flatten(), ignore_index=-100)
    loss.backward()
    assert nats.item() / batch.learnt == pytest.approx(loss.item(), rel=1e-12)
    for name, gradient in gradients(model).items():
        torch.testing.assert_close(got[name], gradient, rtol=0, atol=1e-12)


@pytest.mark.parametrize("pieces", [2, 4])
def test_accumulation_changes_nothing(pieces, small, settings, load):
    model, batch = small().double(), batch_with_borders(load(settings()))
    outcomes = []
    for accumulation in (1, pieces):
        nats = Learner(settings(accumulation=accumulation), model).differentiate(batch).nats
        outcomes.append((nats.item(), gradients(model)))
        model.zero_grad()
    assert outcomes[0][0] == pytest.approx(outcomes[1][0], rel=1e-12)
    for name, gradient in outcomes[0][1].items():
        torch.testing.assert_close(outcomes[1][1][name], gradient, rtol=0, atol=1e-12)


def test_the_models_own_losses_are_added_and_told(settings, load):
    config, batch = settings(accumulation=2), next(load(settings()))
    model = LanguageModel.Config(vocabulary=259, body=Reporter.Config(width=8), context_limit=None).build()
    found = Learner(config, model).differentiate(batch)
    got = gradients(model)
    model.zero_grad()
    output = model(batch.ids_BT, documents=batch.documents_BT)
    size = output.auxiliary["size"]
    (F.cross_entropy(output.logits.flatten(0, 1), batch.targets_BT.flatten()) + size).backward()
    assert found.auxiliary["size"].item() == pytest.approx(size.item(), rel=1e-5)
    assert found.observed["outputs"].item() == pytest.approx(size.item(), rel=1e-5)
    torch.testing.assert_close(got["body.mix.weight"], gradients(model)["body.mix.weight"])


@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.parametrize("family", ["linear", "window"])
def test_carried_streams_are_heard_but_not_differentiated(family, accumulation, small, settings, load):
    config = settings(carry=True, accumulation=accumulation)
    model, loader = small(family).double(), load(config)
    learner, state = Learner(config, model), None
    for _ in range(loader.steps + 1):  # into the next epoch, where streams begin anew
        batch = next(loader)
        model.zero_grad()
        output = model(batch.ids_BT, None if batch.fresh else state, documents=batch.documents_BT)
        state = detach(output.state)
        F.cross_entropy(output.logits.flatten(0, 1), batch.targets_BT.flatten(), ignore_index=-100).backward()
        expected = gradients(model)
        model.zero_grad()
        learner.streams = None if batch.fresh else learner.streams
        learner.streams = learner.differentiate(batch).state
        for name, gradient in gradients(model).items():
            torch.testing.assert_close(gradient, expected[name], rtol=0, atol=1e-12)


def test_only_steps_are_in_training_mode(small, settings, load):
    model, seen = small(), []
    model.body.register_forward_pre_hook(lambda module, _: seen.append(module.training))
    Learner(settings(), model).learn(next(load(settings())), 1.0)
    model(torch.zeros(1, 1, dtype=torch.long))
    assert seen == [True, False]


def test_carrying_is_not_beginning_anew(small, settings, load):
    """The test above could not fail if the past made no difference."""
    config = settings(carry=True)
    learner, loader = Learner(config, small("linear").double()), load(config)
    learner.streams = learner.differentiate(next(loader)).state
    batch = next(loader)
    heard = learner.differentiate(batch).nats
    learner.streams = None
    forgotten = learner.differentiate(batch).nats
    assert heard.item() != forgotten.item()


def test_streams_begin_anew_with_the_epoch(small, settings, load):
    """Even where an epoch happens to begin in the document that the last one ended in."""
    config = settings(carry=True)
    learner, batch = Learner(config, small("linear")), next(load(config))
    batch = replace(batch, documents_BT=torch.zeros_like(batch.ids_BT))
    assert batch.fresh
    first, _, _, learner.streams = learner.differentiate(batch)
    assert learner.learn(replace(batch, fresh=False), 0.0).nats != first.item()
    assert learner.learn(batch, 0.0).nats == first.item()


def test_nothing_is_carried_unless_asked(small, settings, load):
    assert Learner(settings(), small()).differentiate(next(load(settings()))).state is None


@pytest.mark.parametrize("carry", [False, True])
@pytest.mark.parametrize("family", ["transformer", "linear", "sparse"])
def test_recomputing_changes_no_bit(family, carry, small, settings, load):
    config = settings(carry=carry, precision="bfloat16")
    model, batch = small(family), next(load(config))
    learner = Learner(config, model)
    nats, _, _, streams = learner.differentiate(batch)
    kept = gradients(model)
    model.zero_grad()
    with recomputed(model, carry=carry):
        again, _, _, streams_again = learner.differentiate(batch)
    assert again.item() == nats.item()
    assert same(gradients(model), kept)
    assert (streams is None) == (streams_again is None)


@pytest.mark.parametrize("family", ["transformer", "moe"])
def test_recomputing_rows_in_groups_changes_nothing(family, small, monkeypatch):
    """Three rows at a time; experts, which are balanced over all rows, are taken whole."""
    model = small(family).double()
    ids_BT = torch.randint(0, 256, (8, 12), generator=torch.Generator().manual_seed(0))

    def gradient() -> dict[str, Tensor]:
        output = model(ids_BT)
        torch.stack([output.logits.square().sum(), *output.auxiliary.values()]).sum().backward()
        found = gradients(model)
        model.zero_grad()
        return found

    rows, forward = [], Block.forward
    monkeypatch.setattr(Block, "forward", lambda self, x, *rest: rows.append(len(x)) or forward(self, x, *rest))
    kept = gradient()
    monkeypatch.setattr(recompute, "POSITIONS", 3 * 12 + 1)
    rows.clear()
    with recomputed(model, carry=False):
        grouped = gradient()
    assert rows[:3] == [3, 3, 2] if family == "transformer" else 8 in rows
    torch.testing.assert_close(grouped, kept, rtol=1e-10, atol=1e-12)


def test_recomputing_keeps_inputs_of_blocks_only_and_ends_with_its_context(small, settings, load):
    model, batch = small(layers=4), next(load(settings()))

    def saved() -> int:
        sizes: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x: sizes.append(x.numel()) or x, lambda x: x):
            model(batch.ids_BT)
        return sum(sizes)

    everything = saved()
    with recomputed(model, carry=False):
        assert saved() < everything / 2
        with torch.no_grad():  # whoever uses the model meanwhile has its states
            assert all(state is not None for state in model(batch.ids_BT).state.body)
    assert saved() == everything


def test_backward_takes_its_types_from_the_forward(small, settings, load):
    """Linear attention computes in float32 under autocast; its gradient must not be rounded to bfloat16."""
    model, batch = small("linear"), next(load(settings()))
    Learner(settings(precision="bfloat16"), model).differentiate(batch)
    got = gradients(model)
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(batch.ids_BT, documents=batch.documents_BT).logits.float()
        nats = F.cross_entropy(logits.flatten(0, 1), batch.targets_BT.flatten(), ignore_index=-100, reduction="sum")
    (nats / batch.learnt).backward()
    assert same(got, gradients(model))


def test_weights_are_cast_once_for_all_pieces(small, settings, load):
    """Autocast keeps its casts until its outermost context ends."""
    model, casts = small(), []
    original = torch.clear_autocast_cache
    learner = Learner(settings(precision="bfloat16", accumulation=4), model)
    try:
        torch.clear_autocast_cache = lambda: casts.append(1) or original()  # type: ignore[assignment]
        learner.differentiate(next(load(settings())))
    finally:
        torch.clear_autocast_cache = original
    assert len(casts) == 1


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_a_step_that_is_not_finite_leaves_everything_alone(where, bad, small, settings, load):
    config = settings(carry=True)
    model, loader = small("linear"), load(config)
    learner = Learner(config, model)
    learner.learn(next(loader), 1.0)
    before, remembered, streams = weights(model), learner.optimizer.tensors(), learner.streams
    remembered = {name: tensor.clone() for name, tensor in remembered.items()}
    if where == "loss":
        hook = model.head.register_forward_hook(lambda *_: _[-1] * bad)
    else:
        hook = model.embedding.weight.register_hook(lambda gradient: gradient * bad)
    update = learner.learn(next(loader), 1.0)
    hook.remove()
    assert update.skipped
    assert same(weights(model), before)
    assert same(learner.optimizer.tensors(), remembered)
    assert learner.streams is streams
    assert not gradients(model)
    assert not learner.learn(next(loader), 1.0).skipped


def test_gradients_are_clipped(small, settings, load):
    batch, moved = next(load(settings())), []
    for clip in (None, 1e-12):
        torch.manual_seed(0)
        model = small()
        before = weights(model)
        update = Learner(settings(clip=clip), model).learn(batch, 1.0)
        assert update.gradient_norm > 0.1
        moved.append(max((model.get_parameter(name) - before[name]).abs().max().item() for name in ("head.weight",)))
    assert moved[1] < 0.1 * moved[0]  # far below AdamW's epsilon, so that the update is small too


@pytest.mark.slow
@pytest.mark.parametrize("family", ["transformer", "linear"])
def test_compiling_changes_nothing_but_speed(family):
    """In a process of its own: the compiler cannot see through the type checks of the test run."""
    command = [sys.executable, "-W", "ignore", str(Path(__file__).with_name("compiled.py")), family]
    told = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert told["loss"] < 1e-5
    assert told["gradient"] < 1e-4
