"""Infini-attention: what the laws do not say by themselves."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from everlong import Span
from everlong.core.accounting import parameter_hints
from everlong.core.errors import ConfigError
from everlong.core.state import state_bytes
from everlong.sequence.attention import Attention
from everlong.sequence.infini import InfiniAttention
from everlong.sequence.infini_memory import Delta, GatedDelta, Linear, StableDelta, Update
from everlong.sequence.infini_segments import stretches
from everlong.sequence.position import Rotary
from everlong.testing.compare import assert_near, gradients_of, pattern
from everlong.testing.example import make
from everlong.testing.split_invariant import run
from everlong.testing.stream import Stream, random_layout
from tests.oracles import parts

SHAPE: dict[str, Any] = {"width": 16, "heads": 4, "kv_heads": 2, "position": Rotary.Config()}
UPDATES = {
    "linear": Linear.Config(),
    "delta": Delta.Config(),
    "stable delta": StableDelta.Config(),
    "gated delta": GatedDelta.Config(),
}
CUTS = {"mid-segment": [3, 13, 14, 30], "at borders": [8, 24], "single tokens": list(range(1, 43))}


def config(segment: int = 8, **fields: Any) -> InfiniAttention.Config:
    return InfiniAttention.Config(**{**SHAPE, "segment": segment, **fields})


@pytest.mark.parametrize("update", UPDATES.values(), ids=UPDATES)
@pytest.mark.parametrize("cuts", CUTS.values(), ids=CUTS)
def test_loop_parallel_and_stream_agree(update: Update.Config, cuts: list[int]) -> None:
    """The oracle's loop over segments, one call, and any cuts: to 1e-11, with gradients to 1e-9."""
    numbers = config(update=update)
    part, stream = make(numbers), Stream.random(2, 43, 16)
    weights = dict(part.named_parameters())
    looped = torch.stack([parts.run(numbers, weights, *row) for row in zip(stream.x_BTD, stream.ids_BT, strict=True)])
    whole, streamed = (run(part, stream, c)[0] for c in ([], cuts))
    expected = gradients_of((looped * pattern(looped)).sum(), weights.values())
    for what, y_BTD in (("one call", whole), ("cut", streamed)):
        assert_near(y_BTD, looped, 1e-11, what)
        found = gradients_of((y_BTD * pattern(y_BTD)).sum(), weights.values())
        for name, gradient, other in zip(weights, found, expected, strict=True):
            assert_near(gradient, other, 1e-9, f"{what}: gradient of {name}")


def test_short_documents_are_plain_attention() -> None:
    """Bit for bit, with the weights of a trained attention: nothing that it had learnt is disturbed."""
    infini, attention = config(segment=8).build(), Attention.Config(**SHAPE).build()
    infini.load_state_dict(attention.state_dict(), strict=False)
    for T in (1, 7, 8):
        x_BTD, span = torch.randn(3, T, 16), Span.plain_from(torch.zeros(3, T, dtype=torch.long))
        assert torch.equal(infini(x_BTD, span)[0], attention(x_BTD, span)[0])
    x_BTD, span = torch.randn(3, 9, 16), Span.plain_from(torch.zeros(3, 9, dtype=torch.long))
    different = infini(x_BTD, span)[0] != attention(x_BTD, span)[0]
    assert not different[:, :8].any()
    assert different[:, 8].all()


@pytest.mark.parametrize("update", UPDATES.values(), ids=UPDATES)
def test_later_losses_reach_what_was_written(update: Update.Config) -> None:
    """From the eighth segment to the keys and values of the first, over calls as well."""
    part = make(config(segment=4, update=update))
    stream = Stream.random(1, 32, 16)
    for cuts in ([], [5, 17]):
        x_BTD = stream.x_BTD.clone().requires_grad_()
        y_BTD, _ = run(part, Stream(x_BTD, stream.ids_BT), cuts)
        (gradient,) = torch.autograd.grad(y_BTD[:, -1].square().sum(), x_BTD)
        assert (gradient[:, :4].abs().amax(-1) > 1e-6).all()


def test_memory_knows_no_order() -> None:
    """Positions of an older segment may change places; those of the own segment may not."""
    part, stream = make(config(segment=4)), Stream.random(1, 11, 16)
    y_BTD = run(part, stream, [])[0]
    for begin, same in ((0, True), (4, True), (8, False)):
        order = list(range(11))
        order[begin], order[begin + 1] = begin + 1, begin
        other = run(part, Stream(stream.x_BTD[:, order], stream.ids_BT[:, order]), [])[0]
        assert torch.allclose(other[:, 10], y_BTD[:, 10], atol=1e-12) == same


def test_shared_heads_are_repeated_heads() -> None:
    """Grouped key/value heads are those of plain attention whose neighbours have the same keys and values."""
    grouped = make(config(segment=4, update=GatedDelta.Config()))
    plain = make(config(segment=4, update=GatedDelta.Config(), kv_heads=4))
    with torch.no_grad():
        for name, weight in grouped.named_parameters():
            own = plain.get_parameter(name)
            if own.shape == weight.shape:
                own.copy_(weight)
            elif name in ("k.weight", "v.weight"):
                own.copy_(weight.view(2, 4, 16).repeat_interleave(2, 0).flatten(0, 1))
            else:
                own.copy_(weight.repeat_interleave(2, 0))
    stream = random_layout(Stream.random(2, 21, 16), seed=3, padding=0.1, ends=0.05)
    one, other = (run(part, stream, [6])[0][stream.mask_BT] for part in (grouped, plain))
    assert_near(one, other, 1e-12, "grouped")


def test_gates_move() -> None:
    """At first half open, with a learning rate of their own, and no decay."""
    part = config(gate_learning_rate=30.0).build()
    hints = {name: hint for name, _, hint in parameter_hints(part)}
    assert hints["gate"].learning_rate == 30.0
    assert not hints["gate"].decay
    share = torch.sigmoid(part.gate)
    assert (share * (1 - share) > 0.05).all()
    assert part.gate.shape == (4,)
    assert (config(gate=-10.0).build().gate == -10).all()


def test_gates_are_observed() -> None:
    """Head by head, so that what is logged tells them apart."""
    part, span = config().build(), Span.plain_from(torch.zeros(1, 3, dtype=torch.long))
    part.gate.data.copy_(torch.tensor([-2.0, -1.0, 0.0, 1.0]))
    part(torch.randn(1, 3, 16), span)
    seen = [span.observed[f"infini/gate, head {h}"] for h in (1, 2, 3, 4)]
    assert torch.equal(torch.stack([share for (share,) in seen]), torch.sigmoid(part.gate))


def test_calls_leave_nothing_behind() -> None:
    part = config(segment=2).build()
    assert not dict(part.named_buffers())
    x_BTD, span = torch.randn(1, 9, 16), Span.plain_from(torch.zeros(1, 9, dtype=torch.long))
    assert torch.equal(part(x_BTD, span)[0], part(x_BTD, span)[0])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@torch.no_grad()
def test_memory_is_float32(dtype: torch.dtype) -> None:
    """Sums of many segments neither stand still nor overflow: they go on as in float32."""
    part, state = config(segment=8, update=Linear.Config()).build().to(dtype), None
    x_BTD, span = torch.randn(1, 4000, 16, dtype=dtype), Span.plain_from(torch.zeros(1, 4000, dtype=torch.long))
    for _ in range(20):
        y_BTD, state = part(x_BTD, span, state)
    assert state is not None
    assert y_BTD.dtype == dtype
    assert y_BTD.isfinite().all()
    assert state.memory.z_BGE.dtype == torch.float32
    once = part(x_BTD, span)[1].memory.z_BGE
    assert (state.memory.z_BGE / once - 20).abs().max() < 0.01
    assert state.memory.z_BGE.max() > 65504  # of float16


def test_autocast_does_not_touch_the_memory() -> None:
    part, span = config(segment=4).build(), Span.plain_from(torch.zeros(1, 30, dtype=torch.long))
    x_BTD = torch.randn(1, 30, 16)
    with torch.autocast("cpu", torch.bfloat16):
        y_BTD, state = part(x_BTD, span)
    assert state.memory.m_BGEF.dtype == torch.float32
    assert (y_BTD.float() - part(x_BTD, span)[0]).abs().max() < 0.05


def test_state_is_as_small_as_it_says() -> None:
    """M and z of E (E + 1) numbers a head in all, and the open segment's vectors: turned keys, raw ones, and values."""
    part = config(segment=8, update=Linear.Config()).build()
    for T, open in ((5, 5), (8, 0), (803, 3)):
        _, state = part(torch.randn(1, T, 16), Span.plain_from(torch.zeros(1, T, dtype=torch.long)))
        assert state_bytes(state) == part.state_bytes(T) == 4 * (2 * 4 * (4 + 1) + 3 * open * 2 * 4)


def test_short_documents_cost_what_they_cost_alone() -> None:
    """No position of a packed row meets keys beyond its segment, and no short document is taken to the memory."""
    pieces = config(segment=4).build().plain_pieces(2, 11, 11)
    assert sum(p.query.count * p.query.length * (p.query.length + 1) // 2 for p in pieces) == 2 * (10 + 10 + 6)


@pytest.mark.parametrize(
    ("T", "past", "expected"),
    [
        (1, 0, [(0, 1, 1)]),
        (8, 0, [(0, 2, 4)]),
        (9, 0, [(0, 2, 4), (8, 1, 1)]),
        (2, 3, [(0, 1, 1), (1, 1, 1)]),
        (1, 2, [(0, 1, 1)]),
        (10, 1, [(0, 1, 3), (3, 1, 4), (7, 1, 3)]),
    ],
)
def test_stretches(T: int, past: int, expected: list[tuple[int, int, int]]) -> None:
    assert stretches(T, past, 4) == expected


@pytest.mark.parametrize(
    "fields", [{"segment": 0}, {"gate_learning_rate": 0.0}, {"update": GatedDelta.Config(forgetting=0.0)}]
)
def test_impossible_numbers_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        config(**fields).build()


def test_one_key_value_pair_is_found_after_many_segments() -> None:
    """A key that nothing else resembles is recalled with its value, however much was written since."""
    part = make(config(segment=4, heads=1, kv_heads=1, update=StableDelta.Config(), position=None))
    with torch.no_grad():
        for layer in (part.q, part.k, part.v, part.out):
            layer.weight.copy_(torch.eye(16, dtype=torch.float64))
        part.gate.fill_(30.0)
    x_BTD = torch.full((1, 401, 16), -40.0, dtype=torch.float64)
    x_BTD[..., 1] = 2.0
    x_BTD[:, 2], x_BTD[:, 400] = _key(0, -9.0), _key(0, -40.0)
    y_BTD, _ = part(x_BTD, Span.plain_from(torch.zeros(1, 401, dtype=torch.long)))
    assert_near(y_BTD[0, 400], x_BTD[0, 2], 1e-6, "recalled")


def _key(place: int, others: float) -> Tensor:
    key = torch.full((16,), others, dtype=torch.float64)
    key[place] = 20.0
    return key
