"""Experts of which some do nothing: integrated Mixture-of-Depths-and-Experts (Raposo et al. 2024, arXiv 2404.02258).

Legend: N positions, M = N k choices, J of them of experts that compute, E experts, Z no-op experts, k chosen at every
position, D width, F size of an expert's gated layer.

Among the experts of a mixture (see `experts.py`) stand Z more whose answer is 0: one router decides which experts a
position uses, and how many. With the scores s of all E + Z, and the k chosen ones c,

    y = scale sum_{e in c, e < E} s_e / (sum_{e' in c} s_e') f_e(x) + f_shared(x),

so a position that chooses no-op experts is changed less, and costs less. Balance holds all E + Z evenly loaded: at this
nominal rate, a share E / (E + Z) of the choices is computed.
"""

from __future__ import annotations

import math

from jaxtyping import Float, Int64
from torch import Tensor

from everlong.core.accounting import linear_flops
from everlong.core.config import check
from everlong.core.span import Span
from everlong.width.experts import Experts


class NoOpExperts(Experts):
    """Routed and shared experts, and some that do nothing. Stateless."""

    class Config(Experts.Config):
        noops: int
        """Z, experts that do nothing, behind the others."""

        @property
        def choices(self) -> int:
            return self.experts + self.noops

    def __init__(self, config: NoOpExperts.Config) -> None:
        check(config.noops >= 1, "noop_experts.noops", config.noops, "must be at least 1; without any, use Experts")
        super().__init__(config)
        self.noops = config.noops

    def computing(self, order_M: Int64[Tensor, " m"], count_E: Int64[Tensor, " e"]) -> tuple[Tensor, Tensor]:
        """Choices of no-ops, which stand behind the others, are left out."""
        count_E = count_E[: self.experts]
        return order_M[: int(count_E.sum())], count_E

    def tell(self, score_NE: Float[Tensor, "n e"], count_E: Int64[Tensor, " e"], span: Span) -> None:
        """Shows besides how many of the choices are computed."""
        super().tell(score_NE, count_E, span)
        span.observe("experts/computed", count_E[: self.experts].sum() / count_E.sum().clamp(min=1))

    @property
    def idle_parameters(self) -> int:
        """Parameters that a position leaves out, at the nominal rate."""
        one = self.input.weight[0].numel() + self.out.weight[0].numel()
        return one * self.experts - round(one * self.active * self.experts / (self.experts + self.noops))

    def computed(self, T: int) -> int:
        """Choices of T positions that are computed, at the nominal rate: the share E / (E + Z), rounded up."""
        return math.ceil(T * self.active * self.experts / (self.experts + self.noops))

    def flops(self, T: int) -> int:
        """At the nominal rate."""
        one = self.input.weight[0].numel() + self.out.weight[0].numel()
        common = 0 if self.common is None else self.common.flops(T)
        return linear_flops(self.router, T=T) + 2 * self.computed(T) * one + common
