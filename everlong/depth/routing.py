"""Who is routed through a block, and how the routed positions are shown to it.

Legend: B batch rows, T positions of a call, R of them routed (of the row that routes most), D width.

In training every document's best positions by the router's score are routed, which looks at the whole document. So a
stream is decided by a rule that looks at one position only, and is trained to agree (Raposo et al. 2024, arXiv
2404.02258, section 3.5): either the router's own score, drawn apart by an auxiliary loss, or a predictor beside it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from everlong.core.accounting import Hint, linear_flops
from everlong.core.config import Config, Configurable, check
from everlong.core.exact import exactly
from everlong.core.span import Span

EPS = 1e-6  # beside the mean square of a vector
ROUNDING = 1e-9  # below which a share of positions is taken for rounding, and not for one position more


class Rule(nn.Module, Configurable):
    """Decides from one position alone whether it is routed: where the logit is above 0."""

    class Config(Config):
        weight: float = 0.01
        """Factor of the loss that teaches the rule what training routed."""

        def build(self, width: int) -> Rule:
            """The rule for vectors of a width."""
            return self.builds(self, width)  # type: ignore[misc]  # set by Configurable

    def __init__(self, config: Rule.Config, width: int) -> None:
        super().__init__()
        check(config.weight > 0, "rule.weight", config.weight, "must be above 0, or the rule is never trained")
        self.weight = config.weight

    def forward(self, x_BTD: Float[Tensor, "b t d"], router: nn.Linear) -> Float[Tensor, "b t"]:
        """The logit of every position."""
        raise NotImplementedError

    def loss(self, logit_BT: Tensor, routed_BT: Tensor, real_BT: Tensor | None) -> Tensor:
        """Weighted binary cross-entropy of what training routed, mean over the real positions."""
        nats_BT = F.binary_cross_entropy_with_logits(logit_BT, routed_BT.to(logit_BT.dtype), reduction="none")
        mean = nats_BT.mean() if real_BT is None else nats_BT[real_BT].sum() / real_BT.sum().clamp(min=1)
        return self.weight * mean

    def flops(self, T: int) -> int:
        """FLOPs of the logits of T positions."""
        raise NotImplementedError


class RouterRule(Rule):
    """The router's own score, r + b: the loss makes that of routed positions positive and that of the others negative,
    and so pulls at the router and at the vectors that it reads. The offset b is not in the paper; without it, scores
    that are spread around 0 could not be positive for an eighth of the positions."""

    class Config(Rule.Config):
        pass

    def __init__(self, config: RouterRule.Config, width: int) -> None:
        super().__init__(config, width)
        self.width = width
        self.offset = nn.Parameter(torch.zeros(()))

    def forward(self, x_BTD: Float[Tensor, "b t d"], router: nn.Linear) -> Float[Tensor, "b t"]:
        return score(router, x_BTD) + self.offset

    def flops(self, T: int) -> int:
        return 2 * T * self.width


class PredictorRule(Rule):
    """A predictor beside the router, W_2 silu(W_1 x / rms(x) + b_1) + b_2, which learns from the vectors without
    changing them."""

    hints = {"out": Hint(matrix=False)}  # noqa: RUF012  # one row

    class Config(Rule.Config):
        weight: float = 0.1
        """Factor of the loss that teaches the rule what training routed; it reaches the predictor only."""
        hidden: int | None = None
        """Size of the layer between; `None`: half of the width."""

    def __init__(self, config: PredictorRule.Config, width: int) -> None:
        super().__init__(config, width)
        hidden = max(1, width // 2) if config.hidden is None else config.hidden
        check(hidden >= 1, "rule.hidden", hidden, "must be at least 1, or None for half of the width")
        self.input, self.out = nn.Linear(width, hidden), nn.Linear(hidden, 1)

    def forward(self, x_BTD: Float[Tensor, "b t d"], router: nn.Linear) -> Float[Tensor, "b t"]:
        return exactly(self.out, F.silu(exactly(self.input, unit(x_BTD.detach()))))[..., 0]

    def flops(self, T: int) -> int:
        return linear_flops(self.input, self.out, T=T)


def unit(x_BTD: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
    """x / rms(x), in float32 or better."""
    return F.rms_norm(x_BTD.to(torch.promote_types(x_BTD.dtype, torch.float32)), x_BTD.shape[-1:], eps=EPS)


def score(router: nn.Linear, x_BTD: Float[Tensor, "b t d"]) -> Float[Tensor, "b t"]:
    """The router's score of every position, w x / rms(x). The residual stream grows with depth and with training; where
    the router reads it as it is, scores do too, and what g makes of them is 0 or 1."""
    return exactly(router, unit(x_BTD))[..., 0]


def share(capacity: float, positions: int) -> int:
    """How many of so many positions are routed: their share, rounded up."""
    return math.ceil(capacity * positions - ROUNDING)


def best(score_BT: Float[Tensor, "b t"], capacity: float, span: Span) -> Bool[Tensor, "b t"]:
    """The best positions of every document in a stretch, as many as its share; the first of a document is always among
    them."""
    real_BT = torch.ones_like(score_BT, dtype=torch.bool) if span.real_BT is None else span.real_BT
    score_BT = score_BT.masked_fill(~real_BT, -torch.inf).masked_fill(first(span), torch.inf)
    label_BT = torch.zeros_like(span.ids_BT) if span.start_BT is None else span.start_BT.cumsum(1)
    order_BT = score_BT.argsort(dim=1, descending=True, stable=True)
    order_BT = order_BT.gather(1, label_BT.gather(1, order_BT).argsort(dim=1, stable=True))  # document by document
    label_BT = label_BT.gather(1, order_BT)
    places_BL, real_BL = (
        torch.zeros(len(label_BT), label_BT.shape[1] + 1, dtype=torch.int64, device=label_BT.device).scatter_add(
            1, label_BT, counted_BT.long()
        )
        for counted_BT in (torch.ones_like(real_BT), real_BT.gather(1, order_BT))
    )
    rank_BT = torch.arange(label_BT.shape[1], device=label_BT.device) - (places_BL.cumsum(1) - places_BL).gather(
        1, label_BT
    )
    share_BL = torch.ceil(capacity * real_BL.double() - ROUNDING)
    return torch.zeros_like(real_BT).scatter(1, order_BT, rank_BT < share_BL.gather(1, label_BT))


def first(span: Span) -> Bool[Tensor, "b t"]:
    """Which positions are the first of their document."""
    return (span.position_BT == 0).expand_as(span.ids_BT) if span.start_BT is None else span.start_BT


@dataclass(frozen=True, eq=False)
class Routed:
    """The routed positions of a call, moved together."""

    index_BR: Int64[Tensor, "b r"]
    """Which positions of the call they are, in order; arbitrary behind a row's last."""
    span: Span
    """What they are: true positions, ids and documents. Plain where the call is, and all rows route equally many."""

    @classmethod
    def of(cls, routed_BT: Bool[Tensor, "b t"], counts: list[int], span: Span) -> Routed:
        """Moves them together.

        Args:
            counts: how many they are in every row.
        """
        index_BR = torch.argsort((~routed_BT).byte(), dim=1, stable=True)[:, : max(counts)]

        def take(x_BT: Tensor) -> Tensor:
            return x_BT.expand_as(routed_BT).gather(1, index_BR)

        documents = {}
        if not span.plain or min(counts) < max(counts):
            real_BR = torch.arange(index_BR.shape[1], device=index_BR.device) < routed_BT.sum(1)[:, None]
            document_BR = torch.zeros_like(index_BR) if span.document_BT is None else take(span.document_BT)
            start_BR = torch.zeros_like(real_BR) if span.start_BT is None else take(span.start_BT) & real_BR
            documents = {"document_BT": document_BR, "start_BT": start_BR, "real_BT": real_BR}
        return cls(index_BR, replace(span, ids_BT=take(span.ids_BT), position_BT=take(span.position_BT), **documents))

    def take(self, x_BTD: Float[Tensor, "b t d"]) -> Float[Tensor, "b r d"]:
        """The vectors of the routed positions."""
        return x_BTD.gather(1, self._columns(x_BTD))

    def put(self, x_BTD: Float[Tensor, "b t d"], new_BRD: Float[Tensor, "b r d"]) -> Float[Tensor, "b t d"]:
        """All vectors, with new ones at the routed positions."""
        if self.span.real_BT is not None:
            new_BRD = torch.where(self.span.real_BT[..., None], new_BRD, self.take(x_BTD))
        return x_BTD.scatter(1, self._columns(x_BTD), new_BRD)

    def _columns(self, x_BTD: Tensor) -> Tensor:
        return self.index_BR[..., None].expand(-1, -1, x_BTD.shape[-1])
