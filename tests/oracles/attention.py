"""Attention in all its patterns, linear attention among them.

Legend: T positions of one document, D width, H query heads, G key/value heads, E head size.
"""

from __future__ import annotations

import torch
from torch import Tensor

from everlong.sequence.attention import Attention, WindowAttention
from everlong.sequence.blockwise import BlockwiseAttention
from everlong.sequence.dilated import DilatedAttention
from everlong.sequence.linear_attention import LinearAttention
from everlong.sequence.patch_attention import PatchAttention
from everlong.sequence.sparse import SparseAttention
from tests.oracles import dilated
from tests.oracles.parts import Weights, heads, oracle, phi
from tests.oracles.pattern import pattern, scores


@oracle(
    Attention.Config, WindowAttention.Config, SparseAttention.Config, BlockwiseAttention.Config, PatchAttention.Config
)
def attention(config: Attention.Config, weights: Weights, x_TD: Tensor, _ids_T: Tensor) -> Tensor:
    """o_t = sum_s softmax_s(q_t k_s / sqrt(E)) v_s over the s that t sees; head h shares key/value head h G / H."""
    E, T = config.width // config.heads, len(x_TD)
    q_HTE, k_GTE, v_GTE = (heads(x_TD @ weights[f"{name}.weight"].T, E) for name in "qkv")
    hidden_TT = ~pattern(config, T)
    outputs = []
    for h in range(config.heads):
        g = h * config.kv_heads // config.heads
        s_TT = scores(config.position, q_HTE[h], k_GTE[g]) / E**0.5
        outputs.append(s_TT.masked_fill(hidden_TT, -torch.inf).softmax(-1) @ v_GTE[g])
    return torch.cat(outputs, dim=1) @ weights["out.weight"].T


@oracle(DilatedAttention.Config)
def dilated_attention(config: DilatedAttention.Config, weights: Weights, x_TD: Tensor, _ids_T: Tensor) -> Tensor:
    """P_ts = C_ts exp(q_t k_s / sqrt(E)) / sum C_ts' exp(...), C_ts in how many branches t sees s."""
    E, T = config.width // config.heads, len(x_TD)
    q_HTE, k_GTE, v_GTE = (heads(x_TD @ weights[f"{name}.weight"].T, E) for name in "qkv")
    schedule = list(zip(config.segment_lengths, config.dilations, strict=True))
    options = {"rotation": config.rotation, "look_back": config.look_back, "sinks": config.sinks}
    count_HTT = dilated.counts(T, config.heads, schedule, **options)
    outputs = []
    for h in range(config.heads):
        g = h * config.kv_heads // config.heads
        s_TT = scores(config.position, q_HTE[h], k_GTE[g]) / E**0.5
        outputs.append((s_TT + count_HTT[h].double().log()).softmax(-1) @ v_GTE[g])
    return torch.cat(outputs, dim=1) @ weights["out.weight"].T


@oracle(LinearAttention.Config)
def linear_attention(config: LinearAttention.Config, weights: Weights, x_TD: Tensor, _ids_T: Tensor) -> Tensor:
    """S_t = S_{t-1} + phi(k_t) v_t^T, z_t = z_{t-1} + phi(k_t), o_t = phi(q_t) S_t / phi(q_t) z_t; phi = elu + 1."""
    E = config.width // config.heads
    q_HTE, k_HTE, v_HTE = (heads(x_TD @ weights[f"{name}.weight"].T, E) for name in "qkv")
    outputs = []
    for q_TE, k_TE, v_TE in zip(phi(q_HTE), phi(k_HTE), v_HTE, strict=True):
        s_EE, z_E = x_TD.new_zeros(E, E), x_TD.new_zeros(E)
        rows = []
        for q_E, k_E, v_E in zip(q_TE, k_TE, v_TE, strict=True):
            s_EE, z_E = s_EE + k_E[:, None] * v_E[None], z_E + k_E
            rows.append(q_E @ s_EE / (q_E @ z_E))
        outputs.append(torch.stack(rows))
    return torch.cat(outputs, dim=1) @ weights["out.weight"].T
