"""Phases that depend on the data, by which Mamba-3 turns keys and queries (arXiv 2603.15569).

Legend: B batch rows, T positions, H heads, N size of a key, I pairs of it that are turned.

    phi_t = (phi_{t-1} + step_t) mod 2 pi, from 0 where a document begins

The pairs are adjacent coordinates, (x_0, x_1), (x_2, x_3), ...; those behind the I-th pair are not turned.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int64
from torch import Tensor


def phases(
    step_BTHI: Float[Tensor, "b t h i"], before_BHI: Float[Tensor, "b h i"], documents: Int64[Tensor, "b t"] | None
) -> Float[Tensor, "b t h i"]:
    """The phase at every position, its own step included, from 0 to 2 pi.

    Args:
        before_BHI: the phase before the first position.
        documents: 0 for what goes on with it, one more at every position that begins a document.
    """
    precise = torch.float32 if step_BTHI.device.type == "mps" else torch.float64  # a long sum loses its last digits
    sum_BTHI = step_BTHI.to(precise).cumsum(1)
    offset_BTHI = before_BHI.to(precise)[:, None]
    if documents is not None:
        own = (documents > 0)[..., None, None]
        offset_BTHI = torch.where(own, -_before_document(sum_BTHI - step_BTHI, documents), offset_BTHI)
    return torch.remainder(sum_BTHI + offset_BTHI, 2 * math.pi).to(step_BTHI.dtype)


def _before_document(sum_BTHI: Tensor, documents: Tensor) -> Tensor:
    """Of sums up to before each position, that of the position that begins its document."""
    begins_BT = documents.diff(dim=1, prepend=documents.new_zeros(len(documents), 1)) != 0
    place_BT = torch.arange(documents.shape[1], device=documents.device).expand_as(documents)
    first_BT = torch.where(begins_BT, place_BT, 0).cummax(1).values
    return sum_BTHI.gather(1, first_BT[..., None, None].expand_as(sum_BTHI))


def turn(x_BTHN: Float[Tensor, "b t h n"], phase_BTHI: Float[Tensor, "b t h i"]) -> Float[Tensor, "b t h n"]:
    """Turns the first I pairs of coordinates by their phases."""
    turned = 2 * phase_BTHI.shape[-1]
    one, other = x_BTHN[..., 0:turned:2], x_BTHN[..., 1:turned:2]
    cos, sin = phase_BTHI.cos(), phase_BTHI.sin()
    pairs = torch.stack([one * cos - other * sin, one * sin + other * cos], dim=-1)
    return torch.cat([pairs.flatten(-2), x_BTHN[..., turned:]], dim=-1)
