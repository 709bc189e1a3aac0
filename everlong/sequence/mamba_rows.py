"""Rows for recurrences: real positions moved together, documents counted.

Legend: B batch rows, T positions, D width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from everlong.core.span import Span


@dataclass(frozen=True, eq=False)
class Rows:
    """One call as a recurrence reads it: each row's real positions first, in order. In a plain call all is `None`."""

    document_BT: Int64[Tensor, "b t"] | None = None
    """Documents begun in this call up to a place; 0: the one that the state belongs to."""
    real_BT: Bool[Tensor, "b t"] | None = None
    """Which places hold a real position; `None`: all."""
    index_BT: Int64[Tensor, "b t"] | None = None
    """Which position of the call stands at a place; `None`: the same."""
    rank_BT: Int64[Tensor, "b t"] | None = None
    """The place of a position of the call; arbitrary where it is not real."""

    @classmethod
    def of(cls, span: Span) -> Rows:
        if span.plain:
            return cls()
        start_BT = torch.zeros_like(span.ids_BT, dtype=torch.bool) if span.start_BT is None else span.start_BT
        if span.real_BT is None:
            return cls(start_BT.cumsum(1))
        index_BT = torch.argsort((~span.real_BT).byte(), dim=1, stable=True)
        start_BT, real_BT = (start_BT & span.real_BT).gather(1, index_BT), span.real_BT.gather(1, index_BT)
        return cls(start_BT.cumsum(1), real_BT, index_BT, (span.real_BT.cumsum(1) - 1).clamp(min=0))

    @property
    def count_B(self) -> Int64[Tensor, " b"] | None:
        """Real positions of each row; `None`: all."""
        return None if self.real_BT is None else self.real_BT.sum(1)

    def compact(self, x_BTD: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        """Moves each row's real positions to its front, and zeros behind them."""
        if self.index_BT is None or self.real_BT is None:
            return x_BTD
        return _rows(x_BTD, self.index_BT).masked_fill(~self.real_BT[..., None], 0)

    def restore(self, x_BTD: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        """The inverse of `compact`, up to what stands at positions that are not real."""
        return x_BTD if self.rank_BT is None else _rows(x_BTD, self.rank_BT)

    def mask(self, x_BTH: Float[Tensor, "b t h"]) -> Float[Tensor, "b t h"]:
        """Zeros at places that hold no real position."""
        return x_BTH if self.real_BT is None else x_BTH * self.real_BT[..., None]


def _rows(x_BTD: Tensor, index_BT: Tensor) -> Tensor:
    return x_BTD.gather(1, index_BT[..., None].expand_as(x_BTD))
