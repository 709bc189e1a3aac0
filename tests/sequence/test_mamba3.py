"""Mamba-3: phases of a long stream, states in float32 or better, its first numbers, documents, errors."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import everlong
from everlong import Span
from everlong.core.accounting import parameter_hints
from everlong.core.errors import ConfigError, ContextError
from everlong.core.state import state_tensors
from everlong.kernels import ssd_blocks
from everlong.sequence.mamba3 import SLOWEST, Mamba3, rates
from everlong.sequence.mamba_phases import phases, turn
from everlong.testing.split_invariant import check_split_invariant
from everlong.testing.stream import Stream, random_layout

SMALL: dict[str, Any] = {"width": 8, "heads": 2, "head_size": 3, "state_size": 4}


@pytest.mark.parametrize("chunk", [1, 3, 64])
@given(seed=st.integers(0, 2**16), ragged=st.booleans())
def test_any_chunk(chunk: int, seed: int, ragged: bool) -> None:
    part, stream = Mamba3.Config(**SMALL).build().double(), Stream.random(2, 11, 8, seed)
    stream = random_layout(stream, seed) if ragged else stream
    with pytest.MonkeyPatch.context() as patch:
        for constant in ("CHUNK", "PAIRWISE", "BLOCK"):
            patch.setattr(ssd_blocks, constant, chunk)
        check_split_invariant(part, stream, [1, 2, 7])


def test_phases_of_a_long_stream() -> None:
    """100,000 steps in float32: as exact as the last one is, in one call and in many."""
    steps = math.pi * torch.tanh(torch.randn(1, 100_000, 1, 1)) * torch.rand(1, 100_000, 1, 1)
    exact = torch.remainder(steps.double().cumsum(1), 2 * math.pi)
    state, parts = torch.zeros(1, 1, 1), []
    for piece in steps.split(1000, dim=1):
        parts.append(phases(piece, state, None))
        state = parts[-1][:, -1]
    for found, allowed in ((phases(steps, torch.zeros(1, 1, 1), None), 1e-6), (torch.cat(parts, dim=1), 1e-4)):
        apart = torch.remainder(found.double() - exact + math.pi, 2 * math.pi) - math.pi
        assert apart.abs().max() < allowed


def test_only_differences_of_phases_count() -> None:
    """Keys and queries that are turned by as much more have the same products, as complex numbers do."""
    k, q, phase = torch.randn(1, 5, 2, 7), torch.randn(1, 5, 2, 7), torch.rand(1, 5, 2, 3)
    products = (turn(k, phase) * turn(q, phase + 0.3)).sum(-1)
    torch.testing.assert_close((turn(k, phase + 2) * turn(q, phase + 2.3)).sum(-1), products, rtol=1e-5, atol=1e-5)
    one, other = (torch.view_as_complex(x[..., :6].unflatten(-1, (3, 2)).contiguous()) for x in (k, q))
    expected = (one * (other * torch.exp(0.3j * torch.ones(3))).conj()).real.sum(-1) + k[..., 6] * q[..., 6]
    torch.testing.assert_close(products, expected, rtol=1e-5, atol=1e-5)


def test_state_of_the_last_document() -> None:
    """Nothing in it is of a document before, phases among them."""
    part, x_BTD = Mamba3.Config(**SMALL).build().double(), torch.randn(1, 9, 8, dtype=torch.float64)
    ids, documents = torch.zeros(1, 9, dtype=torch.long), torch.tensor([[0, 0, 1, 1, 1, 2, 2, 2, 2]])
    span = Span.ragged_from(ids, documents, None, torch.zeros(1, dtype=torch.long), torch.tensor([-1]))
    _, packed = part(x_BTD, span)
    _, alone = part(x_BTD[:, 5:], Span.plain_from(ids[:, 5:]))
    for one, other in zip(state_tensors(packed), state_tensors(alone), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_states_are_float32_or_better(dtype: torch.dtype) -> None:
    span = Span.plain_from(torch.zeros(1, 3, dtype=torch.long))
    y_BTD, state = Mamba3.Config(**SMALL).build().to(dtype)(torch.randn(1, 3, 8, dtype=dtype), span)
    assert y_BTD.dtype == dtype
    assert {x.dtype for x in state_tensors(state)} == {torch.promote_types(dtype, torch.float32)}


def test_autocast_does_not_touch_the_sums() -> None:
    part, span = Mamba3.Config(**SMALL).build(), Span.plain_from(torch.zeros(1, 50, dtype=torch.long))
    with torch.autocast("cpu", torch.bfloat16):
        y_BTD, state = part(torch.randn(1, 50, 8), span)
    assert y_BTD.dtype == torch.bfloat16
    assert {x.dtype for x in state_tensors(state)} == {torch.float32}


def test_rates() -> None:
    """-1 where nothing is said; a line above, a reciprocal below, never slower than the slowest."""
    found = rates(torch.tensor([0.0, 3.0, -3.0, -1e6]))
    torch.testing.assert_close(found, torch.tensor([-1.0, -4.0, -0.25, -SLOWEST]))
    at = torch.zeros(1, requires_grad=True)
    slopes = [torch.autograd.grad(rates(at + shift).sum(), at)[0] for shift in (-1e-6, 1e-6)]
    torch.testing.assert_close(*slopes, rtol=1e-4, atol=0)


def test_initial_numbers() -> None:
    part = Mamba3.Config(**SMALL).build()
    for name in ("B_norm", "C_norm", "B_bias", "C_bias", "D"):
        assert (getattr(part, name) == 1).all()
    kept = {name for name, _, hint in parameter_hints(part) if hint.decay or hint.matrix}
    assert kept == {"input.weight", "out.weight"}


def test_preset() -> None:
    """As many parameters as Mamba-2 of the same size, up to 3 in a hundred."""
    sizes = [sum(p.numel() for p in everlong.build(f"{name}:nano").parameters()) for name in ("mamba", "mamba3")]
    assert abs(sizes[1] / sizes[0] - 1) < 0.03


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "groups": ({"groups": 3}, "mamba3.groups = 3: must divide mamba3.heads = 2"),
    "heads": ({"heads": 0}, "mamba3.heads = 0: must be at least 1"),
    "too much is turned": ({"turned": 1.5}, "mamba3.turned = 1.5: must be above 0 and at most 1"),
    "nothing is turned": ({"turned": 0.4}, "mamba3.turned = 0.4: .* reach one pair of the 4 coordinates"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_numbers(case: str) -> None:
    changes, named = WRONG[case]
    with pytest.raises(ConfigError, match=named):
        Mamba3.Config(**SMALL | changes).build()


@pytest.mark.parametrize("changes", [{"state_size": 5}, {"head_size": 2}, {"turned": 1.0}, {"heads": 1}])
def test_state_of_another_configuration(changes: dict[str, Any]) -> None:
    span, x_BTD = Span.plain_from(torch.zeros(1, 3, dtype=torch.long)), torch.randn(1, 3, 8)
    _, state = Mamba3.Config(**SMALL | changes).build()(x_BTD, span)
    with pytest.raises(ContextError, match="pass what this very part returned"):
        Mamba3.Config(**SMALL).build()(x_BTD, span, state)
