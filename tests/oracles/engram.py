"""N-gram memory."""

from __future__ import annotations

import functools
import operator

import torch
from torch import Tensor

from everlong.memory.engram import Engram
from tests.oracles.parts import Weights, norm, oracle


@oracle(Engram.Config)
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
