"""Parts whose numbers depend on where and how they run: what law 5 must catch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from everlong import Span
from everlong.kernels import attention as kernel
from everlong.sequence.attention import Attention
from everlong.sequence.linear_attention import LinearAttention, LinearAttentionState
from tests.laws.mutants import dilated, engram, experts, granite, infini, mamba, mod, resolution
from tests.laws.mutants.base import FULL, LINEAR, Mutant, Toy


def _fast() -> bool:
    return kernel._backend == "auto"


class ForgetsTheScaleWhenFast(Attention):
    def scale_by_distance(self, q_BTHE, k_BSGE, query_index, key_index):
        return (q_BTHE * self.head**0.5 if _fast() else q_BTHE), k_BSGE


class ForgetsTheScale(Attention):
    def scale_by_distance(self, q_BTHE, k_BSGE, query_index, key_index):
        return q_BTHE * self.head**0.5, k_BSGE


class LosesAGradientWhenFast(Attention):
    def scale_by_distance(self, q_BTHE, k_BSGE, query_index, key_index):
        return q_BTHE, k_BSGE.detach() if _fast() else k_BSGE


class RoundsToBfloat16(Attention):
    """Exact in float64, where a lazy test would look."""

    def scale_by_distance(self, q_BTHE, k_BSGE, query_index, key_index):
        if q_BTHE.dtype == torch.float64:
            return q_BTHE, k_BSGE
        return q_BTHE.bfloat16().to(q_BTHE.dtype), k_BSGE.bfloat16().to(k_BSGE.dtype)


class SumsInBfloat16(LinearAttention):
    """The state in the dtype of the input: a long sum stands still."""

    def forward(self, x_BTD: Tensor, span: Span, state: Any = None) -> tuple[Tensor, Any]:
        y_BTD, new = super().forward(x_BTD, span, state)
        return y_BTD, LinearAttentionState(*(x.to(x_BTD.dtype).to(x.dtype) for x in (new.s_BHEF, new.z_BHE)))


class CountsThreads(Toy):
    def step(self, x_BTD: Tensor, span: Span) -> Tensor:
        return x_BTD * torch.get_num_threads()


NOT_PLACEMENT_INVARIANT = [
    *granite.NOT_THE_ORACLE,
    *experts.NOT_THE_ORACLE,
    *resolution.NOT_THE_ORACLE,
    *mod.NOT_THE_ORACLE,
    *dilated.NOT_THE_ORACLE,
    *engram.NOT_THE_ORACLE,
    *mamba.NOT_THE_ORACLE,
    *infini.NOT_THE_ORACLE,
    Mutant(ForgetsTheScaleWhenFast, "auto against the oracle: the output", FULL),
    Mutant(ForgetsTheScale, "auto against the oracle: the output", FULL),
    Mutant(LosesAGradientWhenFast, "auto against the oracle: the gradient", FULL),
    Mutant(RoundsToBfloat16, "torch.float32 on cpu", FULL),
    Mutant(SumsInBfloat16, "torch.bfloat16 on cpu, 400 calls", LINEAR, LinearAttention.Config),
]
