"""The oracle of partial attention: pieces as a matrix of pairs, then one masked softmax in float64.

Legend: B batch rows, T queries a row, S keys a row, H query heads, G key/value heads, D head size, Q = B*T all
queries, K = B*S all keys.
"""

from __future__ import annotations

import torch
from torch import Tensor

from everlong.kernels.pieces import Pieces, View, Visibility


def places(view: View, heads: int = 1) -> list[list[list[tuple[int, int]]]]:
    """For every sequence of a view, for every head of the view, its positions with the head they are of."""
    return [
        [
            [
                (view.head + j * view.head_step, view.offset + c * view.stride + j * view.skew + i * view.step)
                for i in range(view.length)
            ]
            for j in range(view.heads or heads)
        ]
        for c in range(view.count)
    ]


def counts(
    pieces: Pieces, B: int, T: int, S: int, H: int = 1, G: int = 1, visibility: Visibility | None = None
) -> Tensor:
    """How often every head lets every query see every key, (H, Q, K); head h reads key/value head h G / H."""
    count = torch.zeros(H, B * T, B * S, dtype=torch.long)
    for piece in pieces:
        for queries, keys in zip(places(piece.query, H), places(piece.key, G), strict=True):
            for j, rows in enumerate(queries):
                for i, (h, q) in enumerate(rows):
                    for m, (g, k) in enumerate(keys[j * len(keys) // len(queries)]):
                        assert g == h * G // H, "a query head meets another's keys"
                        seen = piece.low <= m - i <= piece.high if visibility is None else _sees(visibility, q, k)
                        count[h, q, k] += seen
    return count


def pairs(pieces: Pieces, B: int, T: int, S: int) -> Tensor:
    """How often every query sees every key, (Q, K), where all heads are alike."""
    return counts(pieces, B, T, S)[0]


def _sees(visibility: Visibility, q: int, k: int) -> bool:
    low, high, order = (x.flatten() for x in (visibility.low_BT, visibility.high_BT, visibility.order_BS))
    from_ = int(low[q])
    if visibility.marked_BS is not None and visibility.marked_BS.flatten()[k]:
        assert visibility.low_marked_BT is not None
        from_ = min(from_, int(visibility.low_marked_BT.flatten()[q]))
    return from_ <= int(order[k]) <= int(high[q])


def attend(q_BTHD: Tensor, k_BSGD: Tensor, v_BSGD: Tensor, count_HQK: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Output and log-sum-exp of one softmax over a multiset, in which head h sees a key `count` times; (1, Q, K) or
    (Q, K) if all heads are alike. A query that sees nothing gets 0 and -inf."""
    groups = q_BTHD.shape[2] // k_BSGD.shape[2]
    q_HQD = q_BTHD.double().flatten(0, 1).transpose(0, 1)
    k_HKD, v_HKD = (x.double().flatten(0, 1).transpose(0, 1).repeat_interleave(groups, dim=0) for x in (k_BSGD, v_BSGD))
    blind = ~count_HQK.any(-1)
    times = count_HQK.double().log()  # -inf hides what is not seen
    s_HQK = (q_HQD @ k_HKD.mT * scale + times).masked_fill(blind[..., None], 0)
    lse_HQ = s_HQK.logsumexp(-1).masked_fill(blind, -torch.inf)
    o_HQD = (s_HQK.softmax(-1) @ v_HKD).masked_fill(blind[..., None], 0)
    return o_HQD.transpose(0, 1).unflatten(0, q_BTHD.shape[:2]), lse_HQ.T.unflatten(0, q_BTHD.shape[:2])
