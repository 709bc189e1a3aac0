"""One oracle a part.

Legend: T positions of one document, D width, H query heads, G key/value heads, E head size, V vocabulary.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from everlong import Config, LanguageModel
from everlong.memory.engram import Engram
from everlong.model.stack import Block, Residual, Stack
from everlong.sequence.attention import Attention, WindowAttention
from everlong.sequence.blockwise import BlockwiseAttention
from everlong.sequence.dilated import DilatedAttention
from everlong.sequence.linear_attention import LinearAttention
from everlong.sequence.sparse import SparseAttention
from everlong.width.swiglu import SwiGLU
from tests.oracles import dilated
from tests.oracles.pattern import pattern, scores

Weights = Mapping[str, Tensor]


def run(config: Config, weights: Weights, x_TD: Tensor, ids_T: Tensor) -> Tensor:
    """What the part of a configuration answers to one document, of vectors and token ids."""
    if isinstance(config, LanguageModel.Config):
        inner = under(weights, "model.")
        x_TD = inner["embedding.weight"][ids_T] + x_TD  # the catalogue adds the vectors to the embeddings
        return run(config.body, under(inner, "body."), x_TD, ids_T) @ inner["head.weight"].T
    return ORACLES[type(config)](config, weights, x_TD, ids_T)


def under(weights: Weights, prefix: str) -> Weights:
    """The weights of a child."""
    return {name.removeprefix(prefix): weight for name, weight in weights.items() if name.startswith(prefix)}


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


def swiglu(_config: SwiGLU.Config, weights: Weights, x_TD: Tensor, _ids_T: Tensor) -> Tensor:
    """W_out (silu(W_gate x) * W_in x)."""
    gate = x_TD @ weights["gate.weight"].T
    return (gate / (1 + torch.exp(-gate)) * (x_TD @ weights["input.weight"].T)) @ weights["out.weight"].T


def engram(config: Engram.Config, weights: Weights, x_TD: Tensor, ids_T: Tensor) -> Tensor:
    """y_t = sigmoid(sign(s) sqrt|s|) W_V e_t, s = norm(x_t) norm(W_K e_t) / sqrt(D), one position after the other; the
    n-gram that ends at t addresses row (x_t m_0 ^ ... ^ x_{t-n+1} m_{n-1}) mod p of the table of its head."""
    hash, outputs = config.hash, []
    ids = [hash.pad] * hash.orders[-1] + ids_T.tolist()
    for t, x_D in enumerate(x_TD, start=hash.orders[-1]):
        addresses, offset = [], 0
        for order, primes in zip(hash.orders, hash.primes, strict=True):
            mix = functools.reduce(operator.xor, (ids[t - j] * hash.multipliers[j] for j in range(order)))
            for prime in primes:
                addresses.append(offset + mix % prime)
                offset += prime
        e_M = torch.cat([weights["table.rows"][address] for address in addresses])
        query_D = norm(x_D[None], weights["query_norm.weight"])[0]
        key_D = norm((weights["key.weight"] @ e_M)[None], weights["key_norm.weight"])[0]
        s = query_D @ key_D / config.width**0.5
        gate = 1 / (1 + torch.exp(-s.sign() * s.abs().clamp(min=1e-6).sqrt()))
        outputs.append(gate * (weights["value.weight"] @ e_M))
    return torch.stack(outputs)


def residual(config: Residual.Config, weights: Weights, x_TD: Tensor, ids_T: Tensor) -> Tensor:
    """x + inner(x)."""
    return x_TD + run(config.inner, under(weights, "inner."), x_TD, ids_T)


def block(config: Block.Config, weights: Weights, x_TD: Tensor, ids_T: Tensor) -> Tensor:
    """x + mixer(norm(x)), then x + feed_forward(norm(x))."""
    for name, part in (("mixer", config.mixer), ("feed_forward", config.feed_forward)):
        normed_TD = norm(x_TD, weights[f"{name}_norm.weight"])
        x_TD = x_TD + ORACLES[type(part)](part, under(weights, f"{name}."), normed_TD, ids_T)
    return x_TD


def stack(config: Stack.Config, weights: Weights, x_TD: Tensor, ids_T: Tensor) -> Tensor:
    """One part after the other, then a norm."""
    for i, part in enumerate(config.blocks):
        x_TD = ORACLES[type(part)](part, under(weights, f"blocks.{i}."), x_TD, ids_T)
    return norm(x_TD, weights["norm.weight"])


def norm(x_TD: Tensor, weight_D: Tensor) -> Tensor:
    """x / rms(x) * g."""
    return x_TD / (x_TD.square().mean(-1, keepdim=True) + 1e-6).sqrt() * weight_D


def heads(x_TD: Tensor, E: int) -> Tensor:
    """(heads, T, E)."""
    return torch.stack(x_TD.split(E, dim=1))


def phi(x: Tensor) -> Tensor:
    return torch.where(x > 0, x + 1, torch.exp(x.clamp(max=0)))


ORACLES: dict[type[Config], Callable[[Any, Weights, Tensor, Tensor], Tensor]] = {
    Attention.Config: attention,
    WindowAttention.Config: attention,
    SparseAttention.Config: attention,
    BlockwiseAttention.Config: attention,
    DilatedAttention.Config: dilated_attention,
    LinearAttention.Config: linear_attention,
    SwiGLU.Config: swiglu,
    Engram.Config: engram,
    Residual.Config: residual,
    Block.Config: block,
    Stack.Config: stack,
}
