"""The oracle of torchscale's LongNet encoder, written from its algorithm: pad, regroup, attend, scatter, mix.

Legend: B batch rows, N positions, H heads, D head size; of a branch: w segment length, r dilation, n segments of L
kept rows each; W width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

ABSENT = -1e8
"""The log-sum-exp that stands for a branch which does not keep a row."""


def attend(q_BNHD: Tensor, k_BNHD: Tensor, v_BNHD: Tensor, branches: Sequence[tuple[int, int]]) -> Tensor:
    """The branches' outputs, each its own softmax, under weights softmax(log-sum-exp) that count as constants."""
    found = [_branch(q_BNHD, k_BNHD, v_BNHD, w, r) for w, r in branches]
    weight_KBNH = torch.stack([lse.detach() for _, lse in found]).softmax(0)
    return sum(
        (weight[..., None] * out for weight, (out, _) in zip(weight_KBNH, found, strict=True)),
        start=torch.zeros_like(q_BNHD),
    )


def _branch(q_BNHD: Tensor, k_BNHD: Tensor, v_BNHD: Tensor, w: int, r: int) -> tuple[Tensor, Tensor]:
    """One branch's output, 0 where it keeps nothing, and its log-sum-exp, `ABSENT` there and where it is exactly 0."""
    B, N, H, D = q_BNHD.shape
    q, k, v = (_regroup(x, min(w, N), r) for x in (q_BNHD, k_BNHD, v_BNHD))
    n, L, _, _, g = q.shape[1:6]
    out, lse = torch.zeros_like(q), torch.full(q.shape[:-1], ABSENT, dtype=q.dtype)
    for s in range(r):  # the s-th group of heads keeps the s-th row of every r
        s_BnhLM = torch.einsum("bnlhd,bnmhd->bnhlm", q[:, :, :, s, s], k[:, :, :, s, s]) / D**0.5
        out[:, :, :, s, s] = torch.einsum("bnhlm,bnmhd->bnlhd", s_BnhLM.softmax(-1), v[:, :, :, s, s])
        lse[:, :, :, s, s] = s_BnhLM.logsumexp(-1).transpose(2, 3)
    lse = lse.masked_fill(lse == 0, ABSENT)
    # The padding within a segment is not cropped: where r does not divide w, later segments land further on.
    return out.reshape(B, n * L * r, r * g, D)[:, :N, :H], lse.reshape(B, n * L * r, r * g)[:, :N, :H]


def _regroup(x_BNHD: Tensor, w: int, r: int) -> Tensor:
    """Segments, rows of r, and r groups of heads, (B, n, L, r, r, g, D):
    zeros fill up the last segment, then every segment to a multiple of r, and the heads to a multiple of r."""
    B, N, H, D = x_BNHD.shape
    x = F.pad(x_BNHD, (0, 0, 0, -H % r, 0, -N % w)).unflatten(1, (-1, w))
    x = F.pad(x, (0, 0, 0, 0, 0, -w % r))
    return x.reshape(B, x.shape[1], x.shape[2] // r, r, r, (H + -H % r) // r, D)


def encode(
    weights: Mapping[str, Tensor], x_BNW: Tensor, heads: int, branches: Sequence[tuple[int, int]], eps: float = 1e-5
) -> Tensor:
    """Pre-norm layers whose attention and feed-forward each have one more norm inside, then a norm if there is one."""

    def norm(name: str, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"], eps)

    def linear(name: str, x: Tensor) -> Tensor:
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    layers = {int(name.split(".")[1]) for name in weights if name.startswith("layers.")}
    for i in range(len(layers)):
        attention, ffn = f"layers.{i}.self_attn", f"layers.{i}.ffn"
        y = norm(f"layers.{i}.self_attn_layer_norm", x_BNW)
        q, k, v = (linear(f"{attention}.{c}_proj", y).unflatten(-1, (heads, -1)) for c in "qkv")
        o = norm(f"{attention}.inner_attn_ln", attend(q, k, v, branches).flatten(-2))
        x_BNW = x_BNW + linear(f"{attention}.out_proj", o)
        hidden = F.gelu(linear(f"{ffn}.fc1", norm(f"layers.{i}.final_layer_norm", x_BNW)))
        x_BNW = x_BNW + linear(f"{ffn}.fc2", norm(f"{ffn}.ffn_layernorm", hidden))
    return norm("layer_norm", x_BNW) if "layer_norm.weight" in weights else x_BNW
