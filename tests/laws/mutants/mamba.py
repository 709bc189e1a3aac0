"""What implementations of Mamba get wrong: each mutant is caught by a law."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from everlong import Span
from everlong.kernels.ssd import ssd
from everlong.sequence.mamba import Mamba2
from everlong.sequence.mamba_pieces import step_sizes
from everlong.sequence.mamba_rows import Rows
from tests.laws.mutants import mamba3
from tests.laws.mutants.base import Mutant

SMALL: dict[str, Any] = {"width": 8, "heads": 2, "head_size": 4, "state_size": 3}
GROUPS: dict[str, Any] = {"width": 8, "heads": 4, "head_size": 2, "state_size": 3, "groups": 2}


class ForgetsTheConvolution(Mamba2):
    """Begins every call with an empty convolution, as a module without a cache for it does."""

    def forward(self, x_BTD: Tensor, span: Span, state: Any = None) -> tuple[Tensor, Any]:
        if state is not None:
            state = replace(state, past_BLC=torch.zeros_like(state.past_BLC))
        return super().forward(x_BTD, span, state)


class ForgetsTheSums(Mamba2):
    """Begins every call of several tokens without a state, as transformers' Mamba-1 does."""

    def mix(self, u_BTC: Tensor, dt_BTH: Tensor, rows: Rows, s_BGNJ: Tensor | None) -> tuple[Tensor, Tensor]:
        return super().mix(u_BTC, dt_BTH, rows, None if u_BTC.shape[1] > 1 else s_BGNJ)


class LeaksTheSums(Mamba2):
    """Ignores where documents begin, as transformers' Mamba-2 does on a CPU."""

    def mix(self, u_BTC: Tensor, dt_BTH: Tensor, rows: Rows, s_BGNJ: Tensor | None) -> tuple[Tensor, Tensor]:
        return super().mix(u_BTC, dt_BTH, replace(rows, document_BT=None), s_BGNJ)


class LeaksTheConvolution(Mamba2):
    """Separates documents in the recurrence only."""

    def __init__(self, config: Mamba2.Config) -> None:
        super().__init__(config)
        right = self.convolution.forward
        self.convolution.forward = lambda u, rows, past: right(u, replace(rows, document_BT=None), past)  # type: ignore[method-assign]


class RemembersPadding(Mamba2):
    """Steps on where nothing real stands."""

    def mix(self, u_BTC: Tensor, dt_BTH: Tensor, rows: Rows, s_BGNJ: Tensor | None) -> tuple[Tensor, Tensor]:
        return super().mix(u_BTC, dt_BTH, replace(rows, real_BT=None), s_BGNJ)


class KeepsPaddingInTheConvolution(Mamba2):
    """Keeps the last inputs of the row, real or not."""

    def __init__(self, config: Mamba2.Config) -> None:
        super().__init__(config)
        right = self.convolution.forward
        self.convolution.forward = lambda u, rows, past: right(u, replace(rows, real_BT=None), past)  # type: ignore[method-assign]


class SwapsGroups(Mamba2):
    """Gives heads to groups in turn and not in runs; with one group it cannot be seen."""

    def mix(self, u_BTC: Tensor, dt_BTH: Tensor, rows: Rows, s_BGNJ: Tensor | None) -> tuple[Tensor, Tensor]:
        x_BTE, B_BTM, C_BTM = u_BTC.split(self.parts, dim=-1)
        turned = (m.unflatten(-1, (self.config.groups, -1)).flip(2).flatten(2) for m in (B_BTM, C_BTM))
        return super().mix(torch.cat([x_BTE, *turned], dim=-1), dt_BTH, rows, s_BGNJ)


class NormalisesAllGroupsTogether(Mamba2):
    def __init__(self, config: Mamba2.Config) -> None:
        super().__init__(config)
        self.norm.groups = 1


class GatesAfterTheNorm(Mamba2):
    """The order of Qwen3-Next's norm."""

    def __init__(self, config: Mamba2.Config) -> None:
        super().__init__(config)
        right = self.norm.forward
        self.norm.forward = lambda y, z: right(y, torch.full_like(z, 1e3)) * F.silu(z)  # type: ignore[method-assign]


class _Mixes(Mamba2):
    """Mamba-2 with another recurrence; subclasses write `recur`."""

    def mix(self, u_BTC: Tensor, dt_BTH: Tensor, rows: Rows, s_BGNJ: Tensor | None) -> tuple[Tensor, Tensor]:
        x_BTE, B_BTM, C_BTM = u_BTC.split(self.parts, dim=-1)
        x_BTHP = x_BTE.unflatten(-1, (self.config.heads, -1))
        B_BTGN, C_BTGN = (m.unflatten(-1, (self.config.groups, -1)) for m in (B_BTM, C_BTM))
        dt_BTH = step_sizes(dt_BTH, self.dt_bias, self.config.dt_limits, rows)
        y_BTHP, s_BGNJ = self.recur(x_BTHP, dt_BTH, -self.A_log.exp(), B_BTGN, C_BTGN, s_BGNJ, rows.document_BT)
        return y_BTHP.flatten(-2), s_BGNJ

    def recur(self, x, dt, A, B, C, s, documents):
        raise NotImplementedError


class SkipsWithTheStep(_Mixes):
    """Adds D dt x in place of D x."""

    def recur(self, x, dt, A, B, C, s, documents):
        y, s = ssd(x, dt, A, B, C, state=s, documents=documents)
        return y + self.D[:, None] * x * dt[..., None], s


class DecaysWhatItAdds(_Mixes):
    """S_t = exp(A dt_t) (S_{t-1} + B_t (dt_t x_t)^T): off by the decay of one step."""

    def recur(self, x, dt, A, B, C, s, documents):
        y, s = ssd(x * (A * dt).exp()[..., None], dt, A, B, C, state=s, documents=documents)
        return y + self.D[:, None] * x, s


class LosesAGradient(_Mixes):
    """Takes the step sizes for constants where they decay."""

    def recur(self, x, dt, A, B, C, s, documents):
        held = dt.detach()
        y, s = ssd(x * (dt / held)[..., None], held, A, B, C, state=s, documents=documents)
        return y + self.D[:, None] * x, s


class DeclaresTheSumsOnly(Mamba2):
    def state_bytes(self, T: int) -> int:
        return super().state_bytes(T) - self.convolution.state_elements() * 8


class CountsTheConvolution(Mamba2):
    def flops(self, T: int) -> int:
        return super().flops(T) + 2 * T * sum(self.parts) * self.config.taps


def mutants(message: str, *parts: type[Mamba2], numbers: dict[str, Any] = SMALL) -> list[Mutant]:
    return [Mutant(part, message, numbers, Mamba2.Config) for part in parts]


NOT_SPLIT_INVARIANT = [
    *mutants("the output: differs", ForgetsTheConvolution, ForgetsTheSums),
    *mamba3.NOT_SPLIT_INVARIANT,
]
NOT_SPLIT_INVARIANT_RAGGED = [
    *mutants("differs", RemembersPadding, KeepsPaddingInTheConvolution),
    *mamba3.NOT_SPLIT_INVARIANT_RAGGED,
]
NOT_ISOLATED = [*mutants("itself alone", LeaksTheSums, LeaksTheConvolution), *mamba3.NOT_ISOLATED]
NOT_BOUNDED = [*mutants("the state holds", DeclaresTheSumsOnly), *mamba3.NOT_BOUNDED]
NOT_ACCOUNTED = [*mutants("positions take", CountsTheConvolution), *mamba3.NOT_ACCOUNTED]
NOT_THE_ORACLE = [
    *mamba3.NOT_THE_ORACLE,
    *mutants("auto against the oracle: the output", GatesAfterTheNorm, SkipsWithTheStep, DecaysWhatItAdds),
    *mutants("auto against the oracle: the output", SwapsGroups, NormalisesAllGroupsTogether, numbers=GROUPS),
    *mutants("auto against the oracle: the gradient", LosesAGradient),
]
