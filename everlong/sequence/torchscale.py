"""Dilated attention as torchscale computes it, for weights that were trained with it (LongNet, LongViT, Prov-GigaPath).

Legend: B batch rows, N positions, P padded positions, H heads, D head size; of a branch: w segment length, r dilation.

It is not the paper's function (`dilated.py`), from which it differs in five ways. With w' the next multiple of r from
w = min(w, N) on, and g = ceil(H / r), branch (w, r) is

1. of contiguous groups of heads: head j keeps the rows with offset floor(j / g), where the paper has j mod r;
2. padded: the last segment is filled up to w, and then every segment to w', with keys and values of zero, which are
   attended with score 0;
3. shifted: those w' rows a segment are not cropped, so row t of the output is row t mod w' of segment floor(t / w'),
   which is row t only where r divides w, or there is one segment;
4. mixed by weights that carry no gradient: with O_i the branch's own output and s_i its log-sum-exp,
   o = sum_i stop(softmax_i(s_i)) O_i;
5. absent, s_i = -1e8, where it does not keep the row, and also where s_i is 0 to the last bit.

Every query sees keys on both sides. Facts from github.com/microsoft/torchscale (`component/dilated_attention.py` at
commit 11e745e).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from everlong.core.errors import ConfigError, ContextError
from everlong.kernels.attention import attention
from everlong.kernels.pieces import Piece, Pieces, View
from everlong.sequence.dilation import Branch, branches

ABSENT = -1e8  # finite, so that a row that no branch keeps has weights at all: it gets 0


def torchscale_attention(
    q_BNHD: Float[Tensor, "b n h d"],
    k_BNHD: Float[Tensor, "b n g d"],
    v_BNHD: Float[Tensor, "b n g d"],
    segment_lengths: Sequence[int],
    dilations: Sequence[int],
) -> Float[Tensor, "b n h d"]:
    """torchscale's dilated attention of whole rows to themselves, on both sides, with the gradient that it has there.

    Args:
        segment_lengths: w of every branch, growing; one beyond N acts as N.
        dilations: r of every branch, growing.

    Raises:
        ConfigError: an impossible schedule, or keys or values of another shape than the queries.
        ContextError: no positions.
    """
    if q_BNHD.numel() == 0:
        raise ContextError("q_BNHD", tuple(q_BNHD.shape), "must hold at least one position")
    if not q_BNHD.shape == k_BNHD.shape == v_BNHD.shape:
        found = f"keys {tuple(k_BNHD.shape)}, values {tuple(v_BNHD.shape)}"
        raise ConfigError("k_BNHD, v_BNHD", found, f"must both be {tuple(q_BNHD.shape)}, as the queries")
    parts = [_attend(q_BNHD, k_BNHD, v_BNHD, branch) for branch in branches(segment_lengths, dilations)]
    lse_KBNH = torch.stack([lse_BNH for _, lse_BNH in parts])  # without a gradient, as the kernel gives it
    weight_KBNH = lse_KBNH.masked_fill(lse_KBNH.isneginf() | (lse_KBNH == 0), ABSENT).softmax(0).to(q_BNHD.dtype)
    mixed_BNHD = torch.zeros_like(q_BNHD)
    for weight_BNH, (out_BNHD, _) in zip(weight_KBNH, parts, strict=True):
        mixed_BNHD = mixed_BNHD + weight_BNH[..., None] * out_BNHD
    return mixed_BNHD


def _attend(q_BNHD: Tensor, k_BNHD: Tensor, v_BNHD: Tensor, branch: Branch) -> tuple[Tensor, Tensor]:
    """Output and log-sum-exp of one branch, in its padded rows, of which the first N are taken as they lie."""
    B, N, H, _ = q_BNHD.shape
    branch = branch._replace(length=min(branch.length, N))
    q_BPHD, k_BPHD, v_BPHD = (_pad(x, branch) for x in (q_BNHD, k_BNHD, v_BNHD))
    out_BPHD, lse_BPH = attention(q_BPHD, k_BPHD, v_BPHD, _pieces(B * q_BPHD.shape[1], H, branch))
    return out_BPHD[:, :N], lse_BPH[:, :N]


def _pad(x_BNHD: Tensor, branch: Branch) -> Float[Tensor, "b p h d"]:
    """Zeros behind the last segment, and behind every segment; the tensor itself where there are none."""
    w, r = branch
    whole = F.pad(x_BNHD, (0, 0, 0, 0, 0, -x_BNHD.shape[1] % w))
    return F.pad(whole.unflatten(1, (-1, w)), (0, 0, 0, 0, 0, -w % r)).flatten(1, 2)


def _pieces(places: int, H: int, branch: Branch) -> Pieces:
    """All segments at once, in as few pieces as strides allow: the heads of a group keep the same rows, and heads that
    are a group apart begin one row apart."""
    w, r = branch
    padded, group = w + -w % r, -(-H // r)
    every = View(0, places // padded, padded, padded // r, step=r)
    combs = [
        every._replace(offset=offset, head=head, heads=min(group, H - head))
        for offset, head in enumerate(range(0, H, group))
    ]
    diagonals = [
        every._replace(head=head, heads=-(-(H - head) // group), head_step=group, skew=1) for head in range(group)
    ]
    return tuple(Piece(view, view) for view in min(combs, diagonals, key=len))
