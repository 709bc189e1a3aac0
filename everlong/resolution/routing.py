"""Learned chunks: one is opened where a position differs from the one before it (H-Net, arXiv 2507.07955, sec. 2.2).

Legend: B batch rows, T positions of this call, D width.

    p_t = (1 - cos(W_q x_{t-1}, W_k x_t)) / 2,   a chunk is opened where p_t > 1/2,   p = 1 at a document's start.

That is the pairing of the authors' code, and so of the released checkpoints; eq. 4 of the paper has q_t with k_{t-1}
and opens at p = 1/2 too (`PaperRouting`). At first W_q = W_k = 1, and the two agree. With F the share of positions that
open a chunk and G the mean of p, over real positions only, and N the target,

    ratio loss = N / (N - 1) ((N - 1) F G + (1 - F)(1 - G))                                               (eq. 10)

draws the rate towards N positions a chunk; its gradient passes through G alone.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from everlong.core.accounting import Hint, element_bytes, linear_flops
from everlong.core.config import check
from everlong.core.span import Span
from everlong.core.state import State
from everlong.resolution.chunkers import Chunker, Opening
from everlong.resolution.chunks import previous, real_positions


class RoutingState(State):
    """The last position's half of the next comparison, of length one, in float32 or better."""

    left_BD: Float[Tensor, "b d"]


class Routing(Chunker):
    """Learned chunks, as in the authors' code. State: one vector."""

    hints = {"q": Hint(decay=False), "k": Hint(decay=False)}  # noqa: RUF012

    class Config(Chunker.Config):
        bytes_per_chunk: float = 6.0
        """N, the target of the ratio loss, above 1; costs are told at this rate."""
        ratio_weight: float = 0.03
        """Weight of the ratio loss in the training loss."""

        @property
        def rate(self) -> float:
            return self.bytes_per_chunk

    def __init__(self, config: Routing.Config) -> None:
        super().__init__()
        rate, weight = config.bytes_per_chunk, config.ratio_weight
        check(rate > 1, "routing.bytes_per_chunk", rate, "must be above 1; 6 is usual for bytes, 3 for chunks")
        check(weight >= 0, "routing.ratio_weight", weight, "must be 0 or more; 0.03 is usual")
        self.bytes_per_chunk, self.ratio_weight = rate, weight
        self.q, self.k = (nn.Linear(config.width, config.width, bias=False) for _ in range(2))
        for layer in (self.q, self.k):
            nn.init.eye_(layer.weight)

    def forward(
        self,
        x_BTD: Float[Tensor, "b t d"],
        span: Span,
        start_BT: Bool[Tensor, "b t"],
        state: RoutingState | None = None,
    ) -> tuple[Opening, RoutingState]:
        real_BT = real_positions(span)
        with torch.autocast(x_BTD.device.type, enabled=False):  # bfloat16 cannot tell 0.5001 from 0.5
            left_BTD, right_BTD = self.sides(x_BTD)
            before_BD = torch.zeros_like(left_BTD[:, 0]) if state is None else state.left_BD
            left_BTD, last_BD = previous(left_BTD, real_BT, before_BD)
            p_BT = ((1 - (left_BTD * right_BTD).sum(-1)) / 2).clamp(0, 1)
        p_BT = torch.where(start_BT, 1, p_BT)
        opens_BT = real_BT & self.chosen(p_BT)
        self._report(span, opens_BT, p_BT, real_BT)
        opening = Opening(opens_BT, alike=span.plain and len(opens_BT) == 1, probability_BT=p_BT)
        return opening, RoutingState(last_BD)

    def sides(self, x_BTD: Tensor) -> tuple[Tensor, Tensor]:
        """What a position shows to the next one, and what it holds against the one before; of length one."""
        return self._unit(self.q, x_BTD), self._unit(self.k, x_BTD)

    def chosen(self, p_BT: Tensor) -> Tensor:
        """Which probabilities open a chunk."""
        return p_BT > 0.5

    def _unit(self, layer: nn.Linear, x_BTD: Tensor) -> Tensor:
        exact = torch.promote_types(x_BTD.dtype, torch.float32)
        return F.normalize(F.linear(x_BTD.to(exact), layer.weight.to(exact)), dim=-1, eps=1e-12)

    def _report(self, span: Span, opens_BT: Tensor, p_BT: Tensor, real_BT: Tensor) -> None:
        count, N = real_BT.sum().clamp(min=1), self.bytes_per_chunk
        opened = opens_BT.sum() / count
        likely = (p_BT * real_BT).sum() / count
        loss = N / (N - 1) * ((N - 1) * opened * likely + (1 - opened) * (1 - likely))
        span.report("ratio", self.ratio_weight * loss)

    def flops(self, T: int) -> int:
        return linear_flops(self.q, self.k, T=T)

    def state_bytes(self, T: int) -> int:
        return self.q.out_features * max(4, element_bytes(self))


class PaperRouting(Routing):
    """Learned chunks, as the paper writes them: p_t = (1 - cos(W_q x_t, W_k x_{t-1})) / 2, opened where p_t >= 1/2."""

    class Config(Routing.Config):
        pass

    def sides(self, x_BTD: Tensor) -> tuple[Tensor, Tensor]:
        return self._unit(self.k, x_BTD), self._unit(self.q, x_BTD)

    def chosen(self, p_BT: Tensor) -> Tensor:
        return p_BT >= 0.5
