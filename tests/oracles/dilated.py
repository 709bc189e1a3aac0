"""The oracle of dilated attention: one softmax over a multiset of keys (Ding et al. 2023, arXiv 2307.02486, eq. 3-15).

Legend: N positions of a document, H query heads, G key/value heads, D head size.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

Schedule = Sequence[tuple[int, int]]
"""Segment length and dilation of every branch."""


def counts(
    N: int,
    H: int,
    branches: Schedule,
    causal: bool = True,
    rotation: int = 0,
    look_back: bool = False,
    sinks: int = 0,
) -> Tensor:
    """C[h, t, m]: in how many branches head h lets query t see key m, (H, N, N). With look-back a branch's query also
    sees the segment before its own; sinks are one more branch, of the first positions."""
    i = torch.arange(N)
    earlier_NN = (i[None] <= i[:, None]) if causal else torch.ones(N, N, dtype=torch.bool)
    count_HNN = ((i[None] < sinks) & earlier_NN).long().repeat(H, 1, 1)
    for w, r in branches:
        segments_NN = i[:, None] // w - i[None] // w
        near_NN = (segments_NN == 0) | (look_back & (segments_NN == 1))
        for h in range(H):
            kept = (i % w) % r == (h + rotation) % r
            count_HNN[h] += near_NN & kept[:, None] & kept[None] & earlier_NN
    return count_HNN


def attend(q_BNHD: Tensor, k_BNGD: Tensor, v_BNGD: Tensor, count_HNN: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """P = C exp(S) / sum C exp(S), O = P V, and the log of the sum; a query that sees nothing gets 0 and -inf."""
    groups = q_BNHD.shape[2] // k_BNGD.shape[2]
    k_BNHD, v_BNHD = (x.repeat_interleave(groups, dim=2) for x in (k_BNGD, v_BNGD))
    blind_HN1 = ~count_HNN.any(-1, keepdim=True)
    s_BHNM = torch.einsum("bnhd,bmhd->bhnm", q_BNHD, k_BNHD) * scale + count_HNN.to(q_BNHD.dtype).log()
    s_BHNM = s_BHNM.masked_fill(blind_HN1, 0)
    p_BHNM = s_BHNM.softmax(-1).masked_fill(blind_HN1, 0)
    lse_BHN = s_BHNM.logsumexp(-1).masked_fill(blind_HN1[..., 0], -torch.inf)
    return torch.einsum("bhnm,bmhd->bnhd", p_BHNM, v_BNHD), lse_BHN.transpose(1, 2)
