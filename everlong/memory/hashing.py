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

from collections.abc import Sequence
from itertools import accumulate, pairwise

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor, nn

from everlong.core.config import Config, Configurable, check
from everlong.core.span import Span


class NGramHash(nn.Module, Configurable):
    """Addresses of the n-grams of several orders. It has no parameters."""

    class Config(Config):
        vocabulary: int
        """V; token ids are 0 .. V - 1."""
        orders: tuple[int, ...]
        """Lengths of the n-grams, growing."""
        multipliers: tuple[int, ...]
        """m_0 .. m_{N-1}, odd."""
        primes: tuple[tuple[int, ...], ...]
        """Rows of every head, one tuple an order."""
        pad: int
        """The id that stands before a document's first token."""

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

    def __init__(self, config: NGramHash.Config) -> None:
        super().__init__()
        self.config, self.orders, self.pad = config, config.orders, config.pad
        self.lags = config.orders[-1] - 1
        """Tokens before the current one that an address depends on."""
        heads = [torch.tensor(primes) for primes in config.primes]
        flat = [prime for primes in config.primes for prime in primes]
        self.primes = heads
        self.offsets_A = torch.tensor([0, *accumulate(flat[:-1])])

    def forward(
        self, span: Span, history_BL: Int64[Tensor, "b l"] | None = None
    ) -> tuple[Int64[Tensor, "b t a"], Int64[Tensor, "b l"]]:
        """Addresses of a stretch of the stream.

        Args:
            span: its ids and documents.
            history_BL: the N - 1 tokens before it in each row's document, `pad` before the first; `None` at the start.

        Returns:
            Addresses, order by order and head by head, and the history after the stretch.
        """
        B = span.ids_BT.shape[0]
        before_BL = span.ids_BT.new_full((B, self.lags), self.pad) if history_BL is None else history_BL
        lagged, after_BL = _plain(span, before_BL) if span.plain else _ragged(span, before_BL, self.pad)
        return self.addresses(lagged), after_BL

    def addresses(self, lagged: Sequence[Int64[Tensor, "b t"]]) -> Int64[Tensor, "b t a"]:
        """Addresses from the ids at every position: the current one, the one before it, and so on."""
        mix_BT, rows = torch.zeros_like(lagged[0]), []
        for lag, ids_BT in enumerate(lagged):
            mix_BT = mix_BT ^ (ids_BT * self.config.multipliers[lag])
            if lag + 1 in self.orders:
                primes_K = self.primes[self.orders.index(lag + 1)].to(mix_BT.device)
                rows.append(mix_BT[..., None] % primes_K)
        return torch.cat(rows, dim=-1) + self.offsets_A.to(mix_BT.device)


def _plain(span: Span, before_BL: Tensor) -> tuple[list[Tensor], Tensor]:
    """The ids at every lag from 0 to N - 1, and the new history, where every row goes on with its document."""
    T, L = span.ids_BT.shape[1], before_BL.shape[1]
    joined_BS = torch.cat([before_BL, span.ids_BT], dim=1)
    return [joined_BS[:, L - lag : L - lag + T] for lag in range(L + 1)], joined_BS[:, T:].clone()


def _ragged(span: Span, before_BL: Tensor, pad: int) -> tuple[list[Tensor], Tensor]:
    """The same where documents begin, or positions are not real, within the stretch: real ids are moved together
    behind the history, and what lies before a document's place there is `pad`."""
    assert span.start_BT is not None
    real_BT = torch.ones_like(span.start_BT) if span.real_BT is None else span.real_BT
    (B, T), L = span.ids_BT.shape, before_BL.shape[1]
    place_BT = L + real_BT.cumsum(1) - real_BT.long()  # of each real position among history and real ids
    origin_BT = torch.where(span.start_BT, place_BT, 0).cummax(1).values  # where its document begins there
    joined_BS = torch.cat([before_BL, before_BL.new_full((B, T + 1), pad)], dim=1)  # the last column is for the rest
    joined_BS = joined_BS.scatter(1, place_BT.masked_fill(~real_BT, L + T), span.ids_BT)

    def at(index_BI: Tensor, origin_B1: Tensor) -> Tensor:
        return joined_BS.gather(1, index_BI.clamp(min=0)).masked_fill(index_BI < origin_B1, pad)

    last_B1 = place_BT[:, -1:] + real_BT[:, -1:].long()  # one beyond the last real id
    after_BL = at(last_B1 + torch.arange(-L, 0, device=last_B1.device), origin_BT[:, -1:])
    current_BT = torch.where(real_BT, span.ids_BT, pad)
    return [current_BT, *(at(place_BT - lag, origin_BT) for lag in range(1, L + 1))], after_BL


def layer_hashes(
    layers: Sequence[int], *, vocabulary: int, orders: Sequence[int], rows: int, heads: int, pad: int, seed: int = 0
) -> dict[int, NGramHash.Config]:
    """The hashes of a model's layers, as the authors' reference code draws them: multipliers from the seed and the
    layer's number, and for each head the smallest prime from `rows` on that no head of the model has yet.

    Args:
        layers: their numbers.
        vocabulary: V.
        orders: lengths of the n-grams, growing.
        rows: rows a head, at least.
        heads: K, hash heads an order.
        pad: the id before a document's first token.

    Raises:
        ConfigError: a number is out of range.
    """
    check(rows >= 2, "hash.rows", rows, "must be at least 2")
    check(heads >= 1, "hash.heads", heads, "must be at least 1")
    longest, taken = max(orders, default=1), set[int]()
    hashes = {}
    for layer in layers:
        half = max(1, (2**63 - 1) // vocabulary // 2)
        drawn = np.random.default_rng(seed + 10007 * layer).integers(0, half, size=longest, dtype=np.int64)
        hashes[layer] = NGramHash.Config(
            vocabulary=vocabulary,
            orders=tuple(orders),
            multipliers=tuple(2 * int(r) + 1 for r in drawn),
            primes=tuple(tuple(_primes(rows, heads, taken)) for _ in orders),
            pad=pad,
        )
    return hashes


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
