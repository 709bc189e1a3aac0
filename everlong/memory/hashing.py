"""N-gram hashing: which rows of a table the last tokens of a stream address (Engram, arXiv 2601.07372, sec. 2.2).

Legend: B batch rows, T positions, N the longest order, K hash heads an order, A = (number of orders) K addresses.

With odd multipliers m_0 ... m_{N-1}, the n-gram that ends at t is mixed in 64-bit integers,

    mix_n(t) = (x_t m_0) xor (x_{t-1} m_1) xor ... xor (x_{t-n+1} m_{n-1}),

and head k of order n addresses row mix_n(t) mod p_{n,k}, with a prime p_{n,k} of its own. The tables of all heads are
one, behind each other. m_0 belongs to the *current* token. Before a document's first token stands `pad`.

The multipliers stay below 2^63 / V, so that no product overflows: it is the arithmetic of the authors' reference
code (deepseek-ai/Engram), bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor, nn

from everlong.core.config import Config, Configurable, check
from everlong.core.span import Span
from everlong.memory.compression import Compression
from everlong.memory.lags import lagged

Multipliers = Callable[[int, int, int], tuple[int, ...]]
"""From the number of ids, how many multipliers, and a seed."""

_GOLDEN = 0x9E3779B97F4A7C15  # 2^64 over the golden ratio


class NGramHash(nn.Module, Configurable):
    """Addresses of the n-grams of several orders. It has no parameters."""

    compressed_V: Tensor | None

    class Config(Config):
        vocabulary: int
        """V; ids that are hashed are 0 .. V - 1."""
        orders: tuple[int, ...]
        """Lengths of the n-grams, growing."""
        multipliers: tuple[int, ...]
        """m_0 .. m_{N-1}, odd."""
        primes: tuple[tuple[int, ...], ...]
        """Rows of every head, one tuple an order."""
        pad: int
        """The id that stands before a document's first token."""
        compression: Compression | None = None
        """Which id of V a token has; `None`: its own."""

        @property
        def rows(self) -> int:
            """Rows of the table of all heads."""
            return sum(sum(heads) for heads in self.primes)

        @property
        def addresses(self) -> int:
            """A, rows that are looked up at every position."""
            return sum(len(heads) for heads in self.primes)

        def __post_init__(self) -> None:
            V, orders, longest = self.vocabulary, self.orders, max(self.orders, default=0)
            check(V >= 2, "hash.vocabulary", V, "must be at least 2")
            growing = len(orders) > 0 and orders[0] >= 1 and all(a < b for a, b in pairwise(orders))
            check(growing, "hash.orders", orders, "must be whole numbers from 1 on that grow, such as (2, 3)")
            remedy = f"must hold one multiplier for each of the {longest} tokens of the longest order"
            check(len(self.multipliers) == longest, "hash.multipliers", self.multipliers, remedy)
            fitting = all(m % 2 == 1 and 0 < m * (V - 1) < 2**63 for m in self.multipliers)
            check(fitting, "hash.multipliers", self.multipliers, f"must be odd and below 2^63 / {V - 1}")
            check(len(self.primes) == len(orders), "hash.primes", self.primes, "must hold one tuple for every order")
            filled = all(heads and min(heads) >= 1 for heads in self.primes)
            check(filled, "hash.primes", self.primes, "must give every order at least one head of at least one row")
            check(0 <= self.pad < V, "hash.pad", self.pad, f"must be a token id, 0 .. {V - 1}")
            classes = V if self.compression is None else self.compression.classes
            check(classes == V, "hash.vocabulary", V, f"must be the number of compressed ids, {classes}")

    def __init__(self, config: NGramHash.Config) -> None:
        super().__init__()
        self.config, self.orders, self.pad = config, config.orders, config.pad
        self.lags = config.orders[-1] - 1
        """Tokens before the current one that an address depends on."""
        heads = [torch.tensor(primes) for primes in config.primes]
        flat = [prime for primes in config.primes for prime in primes]
        self.primes = heads
        self.offsets_A = torch.tensor([0, *accumulate(flat[:-1])])
        compressed_V = None if config.compression is None else config.compression.unpack()
        self.register_buffer("compressed_V", compressed_V, persistent=False)  # the configuration holds it

    def forward(
        self, span: Span, history_BL: Int64[Tensor, "b l"] | None = None
    ) -> tuple[Int64[Tensor, "b t a"], Int64[Tensor, "b l"]]:
        """Addresses of a stretch of the stream.

        Args:
            span: its ids and documents.
            history_BL: the N - 1 tokens before it in each row's document, as they are hashed, `pad` before the
                first; `None` at the start.

        Returns:
            Addresses, order by order and head by head, and the history after the stretch.
        """
        ids_BT = span.ids_BT if self.compressed_V is None else self.compressed_V[span.ids_BT]
        lags = range(self.lags + 1)
        ids, after_BL = lagged(ids_BT, span, history_BL, lags, kept=self.lags, fill=self.pad)
        return self.addresses(ids), after_BL

    def addresses(self, ids: Sequence[Int64[Tensor, "b t"]]) -> Int64[Tensor, "b t a"]:
        """Addresses from the ids at every position: the current one, the one before it, and so on."""
        mix_BT, rows = torch.zeros_like(ids[0]), []
        for lag, ids_BT in enumerate(ids):
            mix_BT = mix_BT ^ (ids_BT * self.config.multipliers[lag])
            if lag + 1 in self.orders:
                primes_K = self.primes[self.orders.index(lag + 1)].to(mix_BT.device)
                rows.append(mix_BT[..., None] % primes_K)
        return torch.cat(rows, dim=-1) + self.offsets_A.to(mix_BT.device)


def layer_hashes(
    layers: Sequence[int],
    *,
    vocabulary: int,
    orders: Sequence[int],
    rows: int,
    heads: int,
    pad: int,
    seed: int = 0,
    compression: Compression | None = None,
    draw: Multipliers | None = None,
) -> dict[int, NGramHash.Config]:
    """The hashes of a model's layers, as the authors' reference code draws them: multipliers from the seed and the
    layer's number, and for each head the smallest prime from `rows` on that no head of the model has yet.

    Args:
        layers: their numbers.
        vocabulary: token ids, before compression.
        orders: lengths of the n-grams, growing.
        rows: rows a head, at least.
        heads: K, hash heads an order.
        pad: the token id before a document's first token.
        compression: of the token ids; `None`: they are hashed as they are.
        draw: the multipliers; `None`: as the reference code does, see `drawn`.

    Raises:
        ConfigError: a number is out of range, or the compression is of another vocabulary.
    """
    check(rows >= 2, "hash.rows", rows, "must be at least 2")
    check(heads >= 1, "hash.heads", heads, "must be at least 1")
    if compression is not None:
        remedy = f"must be that of the compressed tokenizer, {compression.vocabulary}: use the tokenizer it is from"
        check(vocabulary == compression.vocabulary, "hash.vocabulary", vocabulary, remedy)
        vocabulary, pad = compression.classes, int(compression.unpack()[pad])
    longest, taken, draw = max(orders, default=1), set[int](), draw or drawn
    return {
        layer: NGramHash.Config(
            vocabulary=vocabulary,
            orders=tuple(orders),
            multipliers=draw(vocabulary, longest, seed + 10007 * layer),
            primes=tuple(tuple(_primes(rows, heads, taken)) for _ in orders),
            pad=pad,
            compression=compression,
        )
        for layer in layers
    }


def drawn(vocabulary: int, count: int, seed: int) -> tuple[int, ...]:
    """Odd multipliers from NumPy's generator, as in the reference code."""
    half = max(1, (2**63 - 1) // vocabulary // 2)
    return tuple(2 * int(r) + 1 for r in np.random.default_rng(seed).integers(0, half, size=count, dtype=np.int64))


def splitmixed(vocabulary: int, count: int, seed: int) -> tuple[int, ...]:
    """Odd multipliers from splitmix64 (Steele et al. 2014), as the n-gram tables of Qwen have them."""
    half = max(1, (2**63 - 1) // vocabulary // 2)
    return tuple(2 * (_splitmix64(seed + _GOLDEN * (i + 1)) % half) + 1 for i in range(count))


def _splitmix64(z: int) -> int:
    z = (z + _GOLDEN) % 2**64
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
    return z ^ z >> 31


def _primes(least: int, count: int, taken: set[int]) -> list[int]:
    """The `count` smallest primes from `least` on that are not taken; they are taken then."""
    found, candidate = [], least - 1
    while len(found) < count:
        candidate += 1
        if candidate not in taken and _is_prime(candidate):
            taken.add(candidate)
            found.append(candidate)
    return found


def _is_prime(n: int) -> bool:
    return n >= 2 and all(n % divisor for divisor in range(2, int(n**0.5) + 1))
