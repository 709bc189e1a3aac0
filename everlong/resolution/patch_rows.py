"""A local part over the patches of ragged rows, as batches of patches.

Legend: B batch rows, T positions of this call, L width, W most positions of a patch in this call; N patches as rows.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from everlong.core.part import Part
from everlong.core.span import Span
from everlong.core.state import repeat_rows
from everlong.resolution.chunks import Chunks, places, real_positions


def in_patches(
    local: Part,
    l_BTL: Float[Tensor, "b t l"],
    span: Span,
    chunks: Chunks,
    slot_BT: Int64[Tensor, "b t"],
    opens_BT: Bool[Tensor, "b t"],
    patch: int,
    state: Any,
) -> tuple[Float[Tensor, "b t l"], Any]:
    """Every patch by itself: those that end in this call as one batch, then the last of each row, whose state stays.

    Args:
        chunks: the patches; patch 0 of a row goes on with `state`.
        slot_BT: each position's place in its patch.
        opens_BT: where patches begin.
    """
    real_BT, which_BT = real_positions(span), chunks.which_BT
    last_BT = real_BT & (which_BT == which_BT[:, -1:])
    before_BT, none_B = real_BT & ~last_BT, torch.zeros_like(slot_BT[:, 0])
    rank_BT = places(real_BT, opens_BT, none_B)[0]  # place in the patch, counted from the call's first
    row_B1 = torch.arange(len(l_BTL), device=l_BTL.device)[:, None]
    W, K = min(patch, l_BTL.shape[1]), chunks.count
    inputs = (l_BTL, span, slot_BT, opens_BT)
    y_BTL = torch.zeros_like(l_BTL)
    if l_BTL.shape[1] > 1 and bool(before_BT.any()):
        rows_BT = row_B1 * K + which_BT
        several = None if state is None else repeat_rows(state, K)
        y_BTL, _ = _rows(local, inputs, before_BT, rows_BT, rank_BT, (len(l_BTL) * K, W), several)
    y_last_BTL, state = _rows(local, inputs, last_BT, row_B1.expand_as(which_BT), rank_BT, (len(l_BTL), W), state)
    return torch.where(last_BT[..., None], y_last_BTL, y_BTL), state


def _rows(
    local: Part,
    inputs: tuple[Tensor, Span, Tensor, Tensor],
    chosen_BT: Tensor,
    row_BT: Tensor,
    rank_BT: Tensor,
    shape: tuple[int, int],
    state: Any,
) -> tuple[Tensor, Any]:
    """The local part over the chosen positions, each put into a row at its rank; back in place, with the state."""
    l_BTL, span, slot_BT, opens_BT = inputs
    source_NW = slot_BT.new_zeros(shape)
    real_NW = torch.zeros(shape, dtype=torch.bool, device=slot_BT.device)
    place_C = (row_BT[chosen_BT], rank_BT[chosen_BT])
    source_NW[place_C] = torch.arange(slot_BT.numel(), device=slot_BT.device).view_as(slot_BT)[chosen_BT]
    real_NW[place_C] = True
    ids_NW, slot_NW, opens_NW = (x.flatten()[source_NW] for x in (span.ids_BT, slot_BT, opens_BT))
    inside = Span(
        ids_NW,
        slot_NW,
        torch.zeros_like(ids_NW),
        opens_NW & real_NW,
        real_NW,
        auxiliary=span.auxiliary,
        observed=span.observed,
    )
    l_NWL = torch.where(real_NW[..., None], l_BTL.flatten(0, 1)[source_NW], 0)
    y_NWL, state = local(l_NWL, inside, state)
    row_BT, rank_BT = (torch.where(chosen_BT, x, 0) for x in (row_BT, rank_BT))
    return y_NWL[row_BT, rank_BT], state
