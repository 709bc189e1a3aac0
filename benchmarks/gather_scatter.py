"""Dilated attention by gathering and scattering, as its authors published it: what zero-copy views are timed against.

Written from a description of github.com/microsoft/torchscale (`component/dilated_attention.py`). Each branch pads, cuts
into segments, takes every head's rows by a diagonal, attends in one call, and lays the outputs into a tensor of all
positions and heads, of which k branches hold k at once; they are mixed by weights that carry no gradient.

Legend: B rows, N positions, S segments, w positions of each, r dilation, l = w / r kept rows, H heads, G heads of a
group (G r = H, padded), D head size.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from everlong.sequence.dilation import Branch, branches

ABSENT = -1e8
aten = torch.ops.aten


def gather_scatter_attention(
    q_BNHD: Tensor,
    k_BNHD: Tensor,
    v_BNHD: Tensor,
    segment_lengths: Sequence[int],
    dilations: Sequence[int],
    *,
    causal: bool = True,
) -> Tensor:
    """Every branch by itself, then their mixture; through torch's flash attention, in half precision on a GPU."""
    qkv = (q_BNHD, k_BNHD, v_BNHD)
    outs, lses = zip(*(_branch(qkv, branch, causal) for branch in branches(segment_lengths, dilations)), strict=True)
    weights = torch.stack(lses).softmax(0).to(q_BNHD.dtype).unbind()
    return sum((weight[..., None] * out for weight, out in zip(weights, outs, strict=True)), torch.zeros_like(q_BNHD))


def _branch(qkv: tuple[Tensor, ...], branch: Branch, causal: bool) -> tuple[Tensor, Tensor]:
    """Output (B, N, H, D), zero where the branch keeps no row, and log-sum-exps (B, N, H), `ABSENT` there."""
    B, N, H, _ = qkv[0].shape
    w, r = min(branch.length, N), branch.dilation
    q, k, v = (_gather(x_BNHD, w, r) for x_BNHD in qkv)
    out, lse = flash(q, k, v, causal)
    return _scatter(out, 0, B, r)[:, :N, :H], _scatter(lse[..., None].detach(), ABSENT, B, r)[:, :N, :H, 0]


def flash(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> tuple[Tensor, Tensor]:
    """Torch's flash attention of (S, H, l, D) with its log-sum-exps."""
    if q.is_cpu:
        return aten._scaled_dot_product_flash_attention_for_cpu(q, k, v, 0.0, causal)
    return aten._scaled_dot_product_flash_attention(q, k, v, 0.0, causal)[:2]


def _gather(x_BNHD: Tensor, w: int, r: int) -> Tensor:
    """Kept rows of every segment, (S, H, l, D): those of head j have the offset floor(j / G)."""
    x_BNHD = F.pad(x_BNHD, (0, 0, 0, -x_BNHD.shape[2] % r, 0, -x_BNHD.shape[1] % w))
    x_SwHD = x_BNHD.unflatten(1, (-1, w)).flatten(0, 1)
    x_SlrHD = F.pad(x_SwHD, (0, 0, 0, 0, 0, -w % r)).unflatten(1, (-1, r))
    x_SlGDr = x_SlrHD.unflatten(3, (r, -1)).diagonal(dim1=2, dim2=3)
    return x_SlGDr.permute(0, 4, 2, 1, 3).flatten(1, 2).contiguous()


def _scatter(x_SHlD: Tensor, absent: float, B: int, r: int) -> Tensor:
    """Back to (B, N, H, D), with `absent` in rows that are not kept."""
    x_SlGDr = x_SHlD.unflatten(1, (r, -1)).permute(0, 3, 2, 4, 1)
    x_SlGDrr = torch.diag_embed(x_SlGDr)
    if absent:
        x_SlGDrr = x_SlGDrr.masked_fill(~torch.eye(r, dtype=torch.bool, device=x_SHlD.device), absent)
    x_SlrrGD = x_SlGDrr.permute(0, 1, 4, 5, 2, 3)
    return x_SlrrGD.flatten(3, 4).flatten(1, 2).unflatten(0, (B, -1)).flatten(1, 2)
