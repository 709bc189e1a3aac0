"""The oracle of partial attention: pieces as a matrix of pairs, then one masked softmax in float64.

Legend: B batch rows, T queries a row, S keys a row, H query heads, G key/value heads, D head size, Q = B*T all
queries, K = B*S all keys.
"""

from __future__ import annotations

import torch
from torch import Tensor

from everlong.kernels.pieces import Pieces, View, Visibility


def places(view: View) -> list[list[int]]:
    """The positions of every sequence of a view."""
    return [[view.offset + c * view.stride + i * view.step for i in range(view.length)] for c in range(view.count)]


def pairs(pieces: Pieces, B: int, T: int, S: int, visibility: Visibility | None = None) -> Tensor:
    """How often every query sees every key, (Q, K)."""
    count = torch.zeros(B * T, B * S, dtype=torch.long)
    for piece in pieces:
        for queries, keys in zip(places(piece.query), places(piece.key), strict=True):
            for i, q in enumerate(queries):
                for j, k in enumerate(keys):
                    count[q, k] += piece.low <= j - i <= piece.high if visibility is None else _sees(visibility, q, k)
    return count


def _sees(visibility: Visibility, q: int, k: int) -> bool:
    low, high, order = (x.flatten() for x in (visibility.low_BT, visibility.high_BT, visibility.order_BS))
    from_ = int(low[q])
    if visibility.marked_BS is not None and visibility.marked_BS.flatten()[k]:
        assert visibility.low_marked_BT is not None
        from_ = min(from_, int(visibility.low_marked_BT.flatten()[q]))
    return from_ <= int(order[k]) <= int(high[q])


def attend(q_BTHD: Tensor, k_BSGD: Tensor, v_BSGD: Tensor, seen_QK: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Output and log-sum-exp; a query that sees nothing gets 0 and -inf."""
    groups = q_BTHD.shape[2] // k_BSGD.shape[2]
    q_HQD = q_BTHD.double().flatten(0, 1).transpose(0, 1)
    k_HKD, v_HKD = (x.double().flatten(0, 1).transpose(0, 1).repeat_interleave(groups, dim=0) for x in (k_BSGD, v_BSGD))
    blind_Q = ~seen_QK.any(1)
    s_HQK = (q_HQD @ k_HKD.mT * scale).masked_fill(~seen_QK, -torch.inf).masked_fill(blind_Q[:, None], 0)
    lse_HQ = s_HQK.logsumexp(-1).masked_fill(blind_Q, -torch.inf)
    o_HQD = (s_HQK.softmax(-1) @ v_HKD).masked_fill(blind_Q[:, None], 0)
    return o_HQD.transpose(0, 1).unflatten(0, q_BTHD.shape[:2]), lse_HQ.T.unflatten(0, q_BTHD.shape[:2])
