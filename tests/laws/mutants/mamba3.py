"""What implementations of Mamba-3 get wrong: each mutant is caught by a law."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from everlong import Span
from everlong.kernels.ssd import decaying_sum
from everlong.sequence import mamba3
from everlong.sequence.mamba3 import Mamba3, Mamba3State
from everlong.sequence.mamba_rows import Rows
from tests.laws.mutants.base import Mutant

SMALL: dict[str, Any] = {"width": 8, "heads": 2, "head_size": 3, "state_size": 4, "turned": 1.0}


class _Begins(Mamba3):
    """Begins every call with some of the state empty; subclasses name what."""

    forgotten: tuple[str, ...]

    def forward(self, x_BTD: Tensor, span: Span, state: Any = None) -> tuple[Tensor, Any]:
        if state is not None:
            state = replace(state, **{name: torch.zeros_like(getattr(state, name)) for name in self.forgotten})
        return super().forward(x_BTD, span, state)


class ForgetsThePair(_Begins):
    """Hands over the sums only, as a chunked form of Mamba-2 does."""

    forgotten = ("k_BHN", "v_BHP")


class ForgetsThePhase(_Begins):
    forgotten = ("phase_BHI",)


class StepsWhereNothingIs(Mamba3):
    """Counts padding among the steps."""

    def mix(self, parts: Sequence[Tensor], rows: Rows, state: Mamba3State | None) -> tuple[Tensor, Mamba3State]:
        return super().mix(parts, replace(rows, real_BT=None), state)


class TurnsWithoutTheStep(Mamba3):
    """Phases that do not know how long a step is."""

    def phases(self, angle_BTI: Tensor, dt_BTH: Tensor, rows: Rows, state: Mamba3State | None) -> Tensor:
        return super().phases(angle_BTI, rows.mask(torch.ones_like(dt_BTH)), rows, state)


class TurnsLate(Mamba3):
    """Leaves a position's own step out of its phase: exact in distances to the position before, wrong in others."""

    def phases(self, angle_BTI: Tensor, dt_BTH: Tensor, rows: Rows, state: Mamba3State | None) -> Tensor:
        found = super().phases(angle_BTI, dt_BTH, rows, state)
        return torch.cat([torch.zeros_like(found[:, :1]), found[:, :-1]], dim=1)


class _Patched(Mamba3):
    """Mamba-3 with another function in its module; subclasses name and write it."""

    name: str

    def mix(self, parts: Sequence[Tensor], rows: Rows, state: Mamba3State | None) -> tuple[Tensor, Mamba3State]:
        right = getattr(mamba3, self.name)
        setattr(mamba3, self.name, lambda *inputs, **more: self.wrong(right, *inputs, **more))
        try:
            return super().mix(parts, rows, state)
        finally:
            setattr(mamba3, self.name, right)

    def wrong(self, right: Any, *inputs: Tensor, **more: Any) -> Any:
        raise NotImplementedError


class GrowsWhereItShouldDecay(_Patched):
    """An earlier revision's softplus in place of the heavy tails."""

    name = "rates"

    def wrong(self, right: Any, *inputs: Tensor, **more: Any) -> Any:
        return -torch.nn.functional.softplus(inputs[0])


class HearsNoPairBefore(_Patched):
    """Euler's rule, as Mamba-2 has it."""

    name = "trapezoidal_ssd"

    def wrong(self, right: Any, *inputs: Tensor, **more: Any) -> Any:
        v, w, u, *rest = inputs
        return right(v, w, torch.zeros_like(u), *rest, **more)


class AddsThePairBeforeLate(_Patched):
    """Takes the pair before as if it were not decayed by the step."""

    name = "trapezoidal_ssd"

    def wrong(self, right: Any, *inputs: Tensor, **more: Any) -> Any:
        v, w, u, a, *rest = inputs
        return right(v, w, u / a.exp(), a, *rest, **more)


class LeaksThePair(_Patched):
    """The first position of a document hears the last pair of the one before it."""

    name = "trapezoidal_ssd"

    def wrong(self, right: Any, *inputs: Tensor, **more: Any) -> Any:
        v, _, u, _, k, q = inputs
        y, s, pair = right(*inputs, **more)
        if more["documents"] is None:
            return y, s, pair
        begins = more["documents"][:, 1:] != more["documents"][:, :-1]
        heard = (u[:, 1:] * begins[..., None] * (k[:, :-1] * q[:, 1:]).sum(-1))[..., None] * v[:, :-1]
        return torch.cat([y[:, :1], y[:, 1:] + heard], dim=1), s, pair


class LooksAhead(_Patched):
    """One sum with the weights of the next step, whose excess is taken off again: right up to rounding, and not
    causal in it."""

    name = "trapezoidal_ssd"

    def wrong(self, right: Any, *inputs: Tensor, **more: Any) -> Any:
        v, w, u, a, k, q = inputs
        _, s, pair = right(*inputs, **more)
        following = torch.cat([(u / a.exp())[:, 1:], torch.zeros_like(u[:, :1])], dim=1)
        y, _ = decaying_sum(v, w + following, a, k, q, documents=more["documents"])
        return y - (following * (k * q).sum(-1))[..., None] * v, s, pair


class DeclaresTheSumsOnly(Mamba3):
    def state_bytes(self, T: int) -> int:
        return self.config.heads * self.config.state_size * self.config.head_size * 8


class CountsOneProduct(Mamba3):
    """Mamba-2's count."""

    def flops(self, T: int) -> int:
        return super().flops(T) - 2 * T * self.config.heads * self.config.state_size * self.config.head_size


def mutants(message: str, *parts: type[Mamba3]) -> list[Mutant]:
    return [Mutant(part, message, SMALL, Mamba3.Config) for part in parts]


NOT_CAUSAL = mutants("has a gradient for the inputs", LooksAhead)
NOT_SPLIT_INVARIANT = mutants("the output: differs", ForgetsThePair, ForgetsThePhase)
NOT_SPLIT_INVARIANT_RAGGED = mutants("differs", StepsWhereNothingIs)
NOT_ISOLATED = mutants("itself alone", LeaksThePair)
NOT_BOUNDED = mutants("the state holds", DeclaresTheSumsOnly)
NOT_ACCOUNTED = mutants("positions take", CountsOneProduct)
NOT_THE_ORACLE = mutants(
    "auto against the oracle: the output",
    TurnsWithoutTheStep,
    TurnsLate,
    GrowsWhereItShouldDecay,
    HearsNoPairBefore,
    AddsThePairBeforeLate,
)
