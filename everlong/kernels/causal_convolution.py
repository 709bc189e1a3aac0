"""Causal depthwise convolution, as a sum of shifted products, with a carried past.

Legend: B batch rows, T positions, C channels, K taps, L = K - 1 positions of the past, S = L + T.

    y_t = b + sum_{j < K} w_{K-1-j} * u_{t-j}, over the j for which t - j is in the document of t.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from everlong.core.errors import ContextError


def convolve(
    u_BTC: Float[Tensor, "b t c"],
    weight_CK: Float[Tensor, "c k"],
    bias_C: Float[Tensor, " c"] | None = None,
    *,
    past: Float[Tensor, "*given"] | None = None,
    documents: Int64[Tensor, "b t"] | None = None,
    count_B: Int64[Tensor, " b"] | None = None,
) -> tuple[Float[Tensor, "b t c"], Float[Tensor, "b l c"]]:
    """Continues a convolution by T positions.

    Args:
        weight_CK: the last tap meets the position itself.
        past: the last L inputs of each row's document (B, L, C), zeros before its first; `None`: zeros.
        documents: 0 for what goes on with the past, one more at every position that begins a document; `None`: all 0.
        count_B: how many positions of each row are real; they stand first. `None`: all.

    Returns:
        y, and the past after the last real position.

    Raises:
        ContextError: a past of another shape.
    """
    (B, T, C), L = u_BTC.shape, weight_CK.shape[1] - 1
    past_BLC = u_BTC.new_zeros(B, L, C) if past is None else past.to(u_BTC.dtype)
    if past_BLC.shape != (B, L, C):
        remedy = f"must be {(B, L, C)}: pass what this very part returned"
        raise ContextError("state, past of the convolution", tuple(past_BLC.shape), remedy)
    joined_BSC = torch.cat([past_BLC, u_BTC], dim=1)
    own_BS = None if documents is None else torch.cat([documents.new_zeros(B, L), documents], dim=1)
    y_BTC = u_BTC * weight_CK[:, L] if bias_C is None else torch.addcmul(bias_C, u_BTC, weight_CK[:, L])
    for lag in range(1, L + 1):
        tap_BTC = joined_BSC[:, L - lag : L - lag + T]
        if documents is not None and own_BS is not None:
            tap_BTC = tap_BTC * (own_BS[:, L - lag : L - lag + T] == documents)[..., None]
        y_BTC = torch.addcmul(y_BTC, tap_BTC, weight_CK[:, L - lag])
    return y_BTC, _after(joined_BSC, own_BS, count_B, L)


def _after(joined_BSC: Tensor, own_BS: Tensor | None, count_B: Tensor | None, L: int) -> Tensor:
    """The last L inputs of the document that each row is in; zeros where it is shorter."""
    B, S, C = joined_BSC.shape
    if own_BS is None and count_B is None:
        return joined_BSC[:, S - L :].clone()
    count_B = torch.full((B,), S - L, device=joined_BSC.device) if count_B is None else count_B
    index_BL = count_B[:, None] + torch.arange(L, device=joined_BSC.device)
    past_BLC = joined_BSC.gather(1, index_BL[..., None].expand(-1, -1, C))
    if own_BS is None:
        return past_BLC
    last_B1 = own_BS.gather(1, (count_B - 1 + L).clamp(min=0)[:, None])
    return past_BLC * (own_BS.gather(1, index_BL) == last_B1)[..., None]
