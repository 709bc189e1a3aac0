"""N-gram memory."""

from __future__ import annotations

import functools
import operator

import torch
from torch import Tensor

from everlong.memory.engram import Engram
from everlong.memory.gate import Sigmoid
from everlong.memory.hashing import NGramHash
from everlong.memory.ngram_head import NGramHeads
from everlong.memory.over_encoding import OverEncoding
from everlong.memory.short_convolution import ShortConvolution
from tests.oracles.parts import Weights, norm, oracle, under


@oracle(Engram.Config)
def engram(config: Engram.Config, weights: Weights, x_TD: Tensor, ids_T: Tensor) -> Tensor:
    """u_t = gate(s) W_V e_t, s = norm(x_t) norm(W_K e_t) / sqrt(E), branch by branch; then u + convolution(u)."""
    E, branches = config.width // config.branches, []
    for r in range(config.branches):
        own, rows = slice(r * E, (r + 1) * E), []
        for x_D, e_M in zip(x_TD, remembered(config.hash, weights, ids_T), strict=True):
            query_E = norm(x_D[None, own], weights["query_norm.weight"][own])[0]
            key_E = norm((weights["key.weight"][own] @ e_M)[None], weights["key_norm.weight"][own])[0]
            s = query_E @ key_E / E**0.5
            if config.gate != Sigmoid.Config():
                s = s.sign() * s.abs().clamp(min=1e-6).sqrt()
            rows.append(1 / (1 + torch.exp(-s)) * (weights["value.weight"] @ e_M))
        branches.append(torch.stack(rows))
    u_TD = torch.cat(branches, dim=1)
    if config.convolution is None:
        return u_TD
    return u_TD + short_convolution(config.convolution, under(weights, "convolution."), u_TD, ids_T)


@oracle(OverEncoding.Config)
def over_encoding(config: OverEncoding.Config, weights: Weights, x_TD: Tensor, ids_T: Tensor) -> Tensor:
    """x_t + W e_t."""
    return x_TD + torch.stack([weights["value.weight"] @ e_M for e_M in remembered(config.hash, weights, ids_T)])


@oracle(ShortConvolution.Config)
def short_convolution(config: ShortConvolution.Config, weights: Weights, x_TD: Tensor, _ids_T: Tensor) -> Tensor:
    """silu(sum_j w_j n_{t - j dilation}), n_t = norm(x_t), each branch normalised by itself."""
    parts = zip(x_TD.chunk(config.branches, 1), weights["norm.weight"].chunk(config.branches), strict=True)
    n_TD = torch.cat([norm(x_TE, weight_E) for x_TE, weight_E in parts], dim=1)
    rows = []
    for t in range(len(x_TD)):
        terms = [
            weights["weight_KD"][j] * n_TD[t - j * config.dilation]
            for j in range(config.taps)
            if t >= j * config.dilation
        ]
        y_D = torch.stack(terms).sum(0)
        rows.append(y_D / (1 + torch.exp(-y_D)))
    return torch.stack(rows)


def remembered(hash: NGramHash.Config, weights: Weights, ids_T: Tensor) -> list[Tensor]:
    """e_t of every position: the n-gram that ends at t addresses row (x_t m_0 ^ ... ^ x_{t-n+1} m_{n-1}) mod p of the
    table of its head."""
    given = ids_T.tolist()
    if hash.compression is not None:
        given = [hash.compression.unpack().tolist()[i] for i in given]
    ids, found = [hash.pad] * hash.orders[-1] + given, []
    for t in range(hash.orders[-1], len(ids)):
        addresses, offset = [], 0
        for order, primes in zip(hash.orders, hash.primes, strict=True):
            mix = functools.reduce(operator.xor, (ids[t - j] * hash.multipliers[j] for j in range(order)))
            for prime in primes:
                addresses.append(offset + mix % prime)
                offset += prime
        found.append(torch.cat([weights["table.rows"][address] for address in addresses]))
    return found


@oracle(NGramHeads.Config)
def ngram_heads(config: NGramHeads.Config, weights: Weights, x_TD: Tensor, ids_T: Tensor) -> Tensor:
    """x_t + sum_n E_n[x_{u+1}], u the last of the W positions before t at which the last n tokens are those at t."""
    ids, rows, V = ids_T.tolist(), [], config.vocabulary
    words = ids if config.compression is None else [config.compression.unpack().tolist()[i] for i in ids]
    for t in range(len(ids)):
        y_D = x_TD[t]
        for o, n in enumerate(config.orders):
            said = [
                u
                for u in range(max(n - 1, t - config.window), t)
                if words[u - n + 1 : u + 1] == words[t - n + 1 : t + 1]
            ]
            token = ids[said[-1] + 1] if said and t >= n - 1 else V
            y_D = y_D + weights["after.weight"][o * (V + 1) + token]
        rows.append(y_D)
    return torch.stack(rows)
