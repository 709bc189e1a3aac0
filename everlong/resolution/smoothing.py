"""Exponential smoothing over chunks, in blocks.

Legend: B batch rows, K chunks, C chunks of a block, D width.

    s_k = P_k z_k + (1 - P_k) s_{k-1},   s = 0 before a document's first chunk        (arXiv 2507.07955, eq. 5)

With A_k = sum_{j <= k} log(1 - P_j) within a block, s_k = sum_{j <= k} exp(A_k - A_j) P_j z_j + exp(A_k) s_before: a
masked matrix product, and one carried vector. Differences of logarithms, masked before they are exponentiated, cannot
underflow as a quotient of products does. The C x C weights are made in float64: for P close to 1, float32 loses the
gradient of P by cancellation.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

BLOCK = 64  # chunks of one masked product


def smooth(
    z_BKD: Float[Tensor, "b k d"],
    gain_BK: Float[Tensor, "b k"],
    start_BK: Bool[Tensor, "b k"],
    before_BD: Float[Tensor, "b d"],
) -> tuple[Float[Tensor, "b k d"], Float[Tensor, "b d"]]:
    """The smoothed vectors, and the last of every row.

    Args:
        gain_BK: P, below 1; 0 where a chunk is not real, which leaves the past as it is.
        start_BK: where a document begins: nothing from before goes in.
        before_BD: what was smoothed before the call.
    """
    advance = _step if z_BKD.shape[1] == 1 else _block
    outputs = []
    for begin in range(0, z_BKD.shape[1], BLOCK):
        part = slice(begin, begin + BLOCK)
        s_BCD = advance(z_BKD[:, part], gain_BK[:, part], start_BK[:, part], before_BD)
        before_BD = s_BCD[:, -1]
        outputs.append(s_BCD)
    return torch.cat(outputs, dim=1), before_BD


def _block(z_BCD: Tensor, gain_BC: Tensor, start_BC: Tensor, before_BD: Tensor) -> Tensor:
    precise = torch.float32 if z_BCD.device.type == "mps" else torch.float64
    gain_BC, label_BC = gain_BC.to(precise), start_BC.cumsum(1)
    total_BC = torch.log1p(-gain_BC).cumsum(1)
    heard_BCC = (label_BC[:, :, None] == label_BC[:, None, :]).tril()
    difference_BCC = (total_BC[:, :, None] - total_BC[:, None, :]).masked_fill(~heard_BCC, -torch.inf)
    weight_BCC = (difference_BCC.exp() * gain_BC[:, None, :]).to(z_BCD.dtype)
    carried_BC1 = (total_BC.exp() * (label_BC == 0))[..., None].to(z_BCD.dtype)
    return weight_BCC @ z_BCD + carried_BC1 * before_BD[:, None]


def _step(z_B1D: Tensor, gain_B1: Tensor, start_B1: Tensor, before_BD: Tensor) -> Tensor:
    """One chunk, by the recurrence itself."""
    kept_B1 = (1 - gain_B1) * ~start_B1
    return gain_B1[..., None] * z_B1D + kept_B1[..., None] * before_BD[:, None]
