"""What stood some positions earlier in the same document: the past that n-grams and short convolutions read.

Legend: B batch rows, T positions, L positions kept from before; what stands at a position may have any shape X.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from everlong.core.span import Span


def lagged(
    x_BTX: Tensor, span: Span, before_BLX: Tensor | None, lags: Sequence[int], *, kept: int, fill: int | float
) -> tuple[list[Tensor], Tensor]:
    """What stands at each position, and `lag` real positions before it in its document.

    Args:
        x_BTX: what stands at the positions of this call.
        span: what they are.
        before_BLX: what stood at the last L positions of each row's document; `None`: nothing did.
        lags: how far back, 0 .. L.
        kept: L.
        fill: what stands before a document's first position.

    Returns:
        For every lag a tensor like `x_BTX`; and the last L positions after the stretch. Where a position is not real,
        nothing is promised.
    """
    if before_BLX is None:
        before_BLX = x_BTX.new_full((len(x_BTX), kept, *x_BTX.shape[2:]), fill)
    find = _plain if span.plain else _ragged
    return find(x_BTX, span, before_BLX, lags, fill)


def _plain(
    x_BTX: Tensor, _span: Span, before_BLX: Tensor, lags: Sequence[int], _fill: int | float
) -> tuple[list[Tensor], Tensor]:
    """Where every row goes on with its document."""
    T, L = x_BTX.shape[1], before_BLX.shape[1]
    joined_BSX = torch.cat([before_BLX, x_BTX], dim=1)
    return [joined_BSX[:, L - lag : L - lag + T] for lag in lags], joined_BSX[:, T:].clone()


def _ragged(
    x_BTX: Tensor, span: Span, before_BLX: Tensor, lags: Sequence[int], fill: int | float
) -> tuple[list[Tensor], Tensor]:
    """Where documents begin, or positions are not real, within the stretch: what is real is moved together behind the
    past, and what lies before a document's place there is `fill`."""
    L, row_B1 = before_BLX.shape[1], torch.arange(len(x_BTX), device=x_BTX.device)[:, None]
    real_BT, place_BT, origin_BT = places(span, L)
    joined_BSX = join(before_BLX, x_BTX, real_BT, place_BT, fill)

    def at(index_BI: Tensor, origin_BI: Tensor) -> Tensor:
        there_BI = index_BI >= origin_BI
        found_BIX = joined_BSX[row_B1, index_BI.clamp(min=0)]
        return torch.where(there_BI.view(*there_BI.shape, *[1] * (x_BTX.ndim - 2)), found_BIX, fill)

    last_B1 = place_BT[:, -1:] + real_BT[:, -1:].long()  # one beyond the last real position
    after_BLX = at(last_B1 + torch.arange(-L, 0, device=x_BTX.device), origin_BT[:, -1:])
    return [at(place_BT - lag, origin_BT) for lag in lags], after_BLX


def places(span: Span, past: int) -> tuple[Bool[Tensor, "b t"], Int64[Tensor, "b t"], Int64[Tensor, "b t"]]:
    """Where positions lie once what is real is moved together behind `past` positions from before.

    Returns:
        Which positions are real; the place of each; and the place where its document begins, 0 if before the stretch.
        Where a position is not real, the place is that of the next one that is.
    """
    real_BT = torch.ones_like(span.ids_BT, dtype=torch.bool) if span.real_BT is None else span.real_BT
    place_BT = past + real_BT.cumsum(1) - real_BT.long()
    if span.start_BT is None:
        return real_BT, place_BT, torch.zeros_like(place_BT)
    return real_BT, place_BT, torch.where(span.start_BT, place_BT, 0).cummax(1).values


def join(before_BPX: Tensor, x_BTX: Tensor, real_BT: Tensor, place_BT: Tensor, fill: int | float) -> Tensor:
    """What stood before, and behind it what is real of a stretch, at its `places`; `fill` up to one place more than
    there are positions."""
    (B, P), T = before_BPX.shape[:2], x_BTX.shape[1]
    row_B1 = torch.arange(B, device=x_BTX.device)[:, None]
    room_BSX = x_BTX.new_full((B, T + 1, *x_BTX.shape[2:]), fill)  # the last place is for what is not real
    joined_BSX = torch.cat([before_BPX, room_BSX], dim=1)
    return joined_BSX.index_put((row_B1, place_BT.masked_fill(~real_BT, P + T)), x_BTX)
