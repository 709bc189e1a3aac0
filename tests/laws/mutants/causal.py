"""Parts that hear the future: what law 1 must catch."""

from __future__ import annotations

from torch import Tensor

from everlong import Span
from everlong.kernels.pieces import Piece, Pieces, View
from everlong.sequence.attention import Attention
from tests.laws.mutants import experts, infini, mamba3, mod, resolution
from tests.laws.mutants.base import FULL, Mutant, Toy, toy


def future(x_BTD: Tensor) -> Tensor:
    """The sum of what comes after."""
    return x_BTD.flip(1).cumsum(1).flip(1) - x_BTD


class PeeksOneAhead(Attention):
    def plain_pieces(self, B: int, T: int, S: int) -> Pieces:
        return (Piece(View(0, B, T, T), View(0, B, S, S), high=1),)


class CentresOverTime(Toy):
    def step(self, x_BTD: Tensor, span: Span) -> Tensor:
        return x_BTD - x_BTD.mean(1, keepdim=True)


class HearsTheFutureInValueOnly(Toy):
    def step(self, x_BTD: Tensor, span: Span) -> Tensor:
        return x_BTD + future(x_BTD).detach()


class HearsTheFutureInGradientOnly(Toy):
    def step(self, x_BTD: Tensor, span: Span) -> Tensor:
        return x_BTD + future(x_BTD) - future(x_BTD).detach()


class KnowsTheLength(Toy):
    def step(self, x_BTD: Tensor, span: Span) -> Tensor:
        return x_BTD * x_BTD.shape[1]


class LooksUpTheNextToken(Toy):
    def step(self, x_BTD: Tensor, span: Span) -> Tensor:
        return x_BTD + span.ids_BT.roll(-1, 1)[..., None]


NOT_CAUSAL = [
    *mamba3.NOT_CAUSAL,
    *experts.NOT_CAUSAL,
    *resolution.NOT_CAUSAL,
    *mod.NOT_CAUSAL,
    *infini.NOT_CAUSAL,
    Mutant(PeeksOneAhead, "what comes after changes", FULL),
    toy(CentresOverTime, "what comes after changes"),
    toy(HearsTheFutureInValueOnly, "what comes after changes"),
    toy(HearsTheFutureInGradientOnly, "has a gradient for the inputs"),
    toy(KnowsTheLength, "what comes after is cut off"),
    toy(LooksUpTheNextToken, "what comes after changes"),
]
