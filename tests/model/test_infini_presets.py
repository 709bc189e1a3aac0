"""Presets of Infini-attention and what it is compared with: the paper's numbers, and how names reach parts."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeTensorMode

import everlong
from everlong.core.errors import ConfigError
from everlong.core.state import state_tensors
from everlong.sequence.infini import InfiniAttention
from everlong.sequence.infini_memory import Delta, GatedDelta, Linear, StableDelta
from everlong.train.recompute import recomputed

PAPER = 1_585_152  # numbers of compressive memory: 12 layers of 8 heads of 128 * (128 + 1)


def mixers(model: everlong.LanguageModel) -> list[InfiniAttention]:
    return [part for part in model.modules() if isinstance(part, InfiniAttention)]


def test_the_papers_memory() -> None:
    """As declared, and as it comes out of a call that closes a segment."""
    with FakeTensorMode():
        model = everlong.build("infini:paper")
        output = model(torch.zeros(1, 2048, dtype=torch.long))
    assert sum(part.memory_floats for part in mixers(model)) == PAPER
    assert sum(tensor.numel() for tensor in state_tensors(output.state.body)) == PAPER
    assert model.state_bytes(2048) == model.state_bytes(2048 * 10**6) == 4 * PAPER + 16
    assert {(part.segment, part.heads, part.head) for part in mixers(model)} == {(2048, 8, 128)}
    assert all(type(part.update) is Delta for part in mixers(model))


@pytest.mark.parametrize(
    ("name", "update"),
    [("linear", Linear), ("delta", Delta), ("delta_stable", StableDelta), ("gated_delta", GatedDelta)],
)
def test_updates_by_name(name: str, update: type) -> None:
    """All at the same size of state."""
    model = everlong.build("infini:nano", update=name, gate=-1.0, gate_learning_rate=3.0)
    assert all(type(part.update) is update for part in mixers(model))
    assert model.state_bytes(10**6) == everlong.build("infini:nano").state_bytes(10**6)
    assert all((part.gate == -1).all() and part.hints["gate"].learning_rate == 3 for part in mixers(model))


def test_unknown_updates_are_refused() -> None:
    with pytest.raises(ConfigError, match="did you mean 'delta_stable'"):
        everlong.build("infini:nano", update="delta-stable")


def test_recomputed_blocks_learn_the_same() -> None:
    """What is kept between forward and backward changes no gradient, over segments either."""
    model = everlong.build("infini:nano", segment=8).double()
    ids_BT = torch.randint(259, (2, 50))
    for gradients in (expected := {}, found := {}):
        with recomputed(model, carry=False) if gradients is found else torch.enable_grad():
            loss = F.cross_entropy(model(ids_BT).logits.flatten(0, 1), ids_BT.roll(-1, 1).flatten())
            loss.backward()
        gradients |= {name: parameter.grad for name, parameter in model.named_parameters()}
        model.zero_grad(set_to_none=True)
    assert all(torch.equal(found[name], gradient) for name, gradient in expected.items())


def test_the_first_token_is_never_forgotten() -> None:
    """What is generated after many segments depends on the first token of the prompt."""
    model = everlong.build("infini:nano", segment=8).double().eval()
    ids_BT = torch.randint(259, (1, 100))
    other = ids_BT.clone()
    other[0, 0] = (other[0, 0] + 1) % 259
    with torch.inference_mode():
        one, two = (model(ids[:, 90:], model(ids[:, :90]).state).logits for ids in (ids_BT, other))
    assert (one[:, -1] - two[:, -1]).abs().max() > 1e-6


def test_a_segment_cache_hears_two_segments() -> None:
    model = everlong.build("transformer-xl:nano", layers=1, segment=5).double().eval()
    ids_BT = torch.randint(259, (1, 20))
    with torch.inference_mode():
        expected = model(ids_BT).logits[0, 17]
        for t in range(18):
            other = ids_BT.clone()
            other[0, t] = (other[0, t] + 1) % 259
            assert ((model(other).logits[0, 17] - expected).abs().max() > 1e-12) == (t >= 10)


def test_recurrent_memory_is_all_that_passes_a_border() -> None:
    """At a border nothing is left of the segments before but three vectors, which the next one has read."""
    model = everlong.build("rmt:nano", layers=1, segment=5, memories=3).eval()
    with torch.inference_mode():
        state = model(torch.randint(259, (1, 15))).state.body
    ((read, _),) = state.inner
    assert read.k_BSGD.shape[1] == state.memory_BMD.shape[1] == 3
    assert model.state_bytes(5) == model.state_bytes(5 * 10**6) < model.state_bytes(6)


def test_later_losses_reach_recurrent_memory() -> None:
    """Through every segment before: nothing is detached on the way."""
    model = everlong.build("rmt:nano", layers=1, segment=5, memories=3)
    model(torch.randint(259, (1, 33))).logits[0, -1].sum().backward()
    used = model.embedding.weight.grad.abs().sum(1).nonzero()
    assert model.body.memory.grad.abs().max() > 0
    assert len(used) > 10
