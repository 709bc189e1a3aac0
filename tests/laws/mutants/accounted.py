"""Parts that cost other than they say: what law 6 must catch."""

from __future__ import annotations

from everlong.sequence.attention import Attention
from tests.laws.mutants import experts, infini, mamba, mod, resolution
from tests.laws.mutants.base import FULL, Mutant
from tests.laws.mutants.bounded import DeclaresKeysOnly


class CountsMaskedPairs(Attention):
    def visible_pairs(self, T: int) -> int:
        return T * T


class ForgetsAProjection(Attention):
    def flops(self, T: int) -> int:
        return super().flops(T) - 2 * T * self.width * self.width


class HintsAtNothing(Attention):
    hints = {"output": None}  # noqa: RUF012


NOT_ACCOUNTED = [
    *experts.NOT_ACCOUNTED,
    *resolution.NOT_ACCOUNTED,
    *mamba.NOT_ACCOUNTED,
    *mod.NOT_ACCOUNTED,
    *infini.NOT_ACCOUNTED,
    Mutant(CountsMaskedPairs, "FLOPs, declared", FULL),
    Mutant(ForgetsAProjection, "FLOPs, declared", FULL),
    Mutant(DeclaresKeysOnly, "bytes of state, declared", FULL),
    Mutant(HintsAtNothing, "hints at", FULL),
]
