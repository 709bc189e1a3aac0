"""N-gram heads: what followed the last time that the document said the same (Akyürek et al. 2024, arXiv 2401.12973).

Legend: B batch rows, T positions of a call, P places of the past before them, S joined places of both, D width,
V token ids, W window, N longest order, L = W + N - 1 token ids kept.

A head of order n looks for the last place u at which the document said the n tokens that end at t, at most W positions
ago, and adds a vector that is learnt for the token that followed there:

    u_n(t) = max {u : t - W <= u < t,  x_{u-j} = x_{t-j}  for j = 0 .. n - 1},      y_t = x_t + sum_n E_n[x_{u_n(t)+1}],

with E_n[nothing] where there is no such place. The paper's head hears all such places evenly, and their vectors; here
it is the last one, as in the match models of compressors (Mahoney 2005), and its token. So the state is token ids, and
the places are found by sorting, or by comparing where a call has few positions. The vectors are zero at first, and add
nothing.

N-grams are compared by 64 bits, a polynomial in an odd number a whose coefficients are the tokens (Karp & Rabin 1987),

    key_n(t) = sum_{j < n} (x_{t-j} + 1) a^{-j} mod 2^64 = a^{-t} (c_t - c_{t-n}),   c_t = sum_{i <= t} (x_i + 1) a^i,

so that all orders follow from one cumulative sum. Two that differ are hardly ever taken for equal.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from everlong.core.accounting import Hint
from everlong.core.config import check
from everlong.core.part import Part
from everlong.core.span import Span
from everlong.core.state import State
from everlong.memory.compression import Compression
from everlong.memory.lags import join, lagged, places

NOWHERE = -1
"""Stands before a document's first token; no id."""
BASE = 0x2545F4914F6CDD1D
"""a, an odd number of 62 bits without a pattern."""
INVERSE = (pow(BASE, -1, 2**64) + 2**63) % 2**64 - 2**63
"""Its inverse modulo 2^64, as a signed number."""
FEW = 4
"""Positions of a call up to which n-grams are found by comparing, and not by sorting."""


class NGramHeadState(State):
    """The last L tokens of each row's document; `NOWHERE` before the first."""

    past_BL: Int64[Tensor, "b l"]


class NGramHeads(Part):
    """Adds what followed n-grams before, one head an order. State: the last W + N - 1 token ids, constant."""

    compressed_V: Tensor | None
    hints = {"after": Hint(decay=False, matrix=False)}  # noqa: RUF012

    class Config(Part.Config):
        vocabulary: int
        """V, token ids 0 .. V - 1."""
        orders: tuple[int, ...]
        """Lengths of the n-grams, growing: a head each."""
        window: int
        """W, how many positions ago an n-gram is still found."""
        compression: Compression | None = None
        """By which tokens that spell the same are the same in n-grams; `None`: only equal ones are."""

    def __init__(self, config: NGramHeads.Config) -> None:
        super().__init__()
        orders, longest = config.orders, max(config.orders, default=0)
        for name in ("width", "vocabulary", "window"):
            value = getattr(config, name)
            check(value >= 1, f"ngram_heads.{name}", value, "must be at least 1")
        growing = len(orders) > 0 and orders[0] >= 1 and all(a < b for a, b in pairwise(orders))
        check(growing, "ngram_heads.orders", orders, "must be whole numbers from 1 on that grow, such as (3, 5, 8)")
        if (compression := config.compression) is not None:
            remedy = f"must be that of the compressed tokenizer, {compression.vocabulary}: use the tokenizer it is from"
            fits = config.vocabulary == compression.vocabulary
            check(fits, "ngram_heads.vocabulary", config.vocabulary, remedy)
        self.orders, self.window, self.nothing = orders, config.window, config.vocabulary
        self.kept = config.window + longest - 1
        self.after = nn.Embedding(len(orders) * (config.vocabulary + 1), config.width)
        nn.init.zeros_(self.after.weight)
        compressed_V = None if compression is None else compression.unpack()
        self.register_buffer("compressed_V", compressed_V, persistent=False)  # the configuration holds it

    def forward(
        self, x_BTD: Float[Tensor, "b t d"], span: Span, state: NGramHeadState | None = None
    ) -> tuple[Float[Tensor, "b t d"], NGramHeadState]:
        past_BL = None if state is None else state.past_BL
        token_BTO = self.following(span, past_BL)
        span.observe("n-gram heads/found", (token_BTO < self.nothing).sum(-1))
        first_O = torch.arange(len(self.orders), device=x_BTD.device) * (self.nothing + 1)
        y_ND = F.embedding_bag((token_BTO + first_O).flatten(0, 1), self.after.weight, mode="sum")
        after_BL = lagged(span.ids_BT, span, past_BL, [], kept=self.kept, fill=NOWHERE)[1]
        return x_BTD + y_ND.view(x_BTD.shape).to(x_BTD.dtype), NGramHeadState(after_BL)

    def following(self, span: Span, past_BL: Int64[Tensor, "b l"] | None) -> Int64[Tensor, "b t o"]:
        """What each head finds at every position: a token, or V for nothing."""
        past_BP = span.ids_BT[:, :0] if past_BL is None else past_BL
        real_BT, place_BT, origin_BT = places(span, past_BP.shape[1])
        ids_BS = join(past_BP, span.ids_BT, real_BT, place_BT, NOWHERE)
        origin_BS = join(torch.zeros_like(past_BP), origin_BT, real_BT, place_BT, 0)
        low_BT = torch.maximum(origin_BT, place_BT - self.window)
        find, found = last_of_few if place_BT.shape[1] <= FEW else last_of_many, []
        for key_BS in self.keys(ids_BS, origin_BS):
            last_BT = find(key_BS, place_BT)
            token_BT = ids_BS.gather(1, last_BT + 1)
            there_BT = (last_BT >= low_BT) & (token_BT != NOWHERE)  # a position that is not real may find anything
            found.append(torch.where(there_BT, token_BT, self.nothing))
        return torch.stack(found, dim=-1)

    def keys(self, ids_BS: Int64[Tensor, "b s"], origin_BS: Int64[Tensor, "b s"]) -> Iterator[Int64[Tensor, "b s"]]:
        """What the n-grams that end at every joined place are compared by, order by order."""
        word_BS = ids_BS if self.compressed_V is None else self.compressed_V[ids_BS.clamp(min=0)]
        place_S = torch.arange(ids_BS.shape[1], device=ids_BS.device)
        power_S, inverse_S = (torch.full_like(place_S, base).cumprod(0) for base in (BASE, INVERSE))
        sum_BS = ((word_BS + 1).masked_fill(ids_BS == NOWHERE, 0) * power_S).cumsum(1)
        for order in self.orders:
            key_BS = (sum_BS - F.pad(sum_BS, (order, 0))[:, : len(place_S)]) * inverse_S
            whole_BS = place_S - origin_BS >= order - 1  # what the document is too short for equals nothing
            yield torch.where(whole_BS, key_BS, ~place_S)

    def flops(self, T: int) -> int:
        return 0  # no matrix product

    def state_bytes(self, T: int) -> int:
        return 8 * self.kept


def last_of_many(key_BS: Int64[Tensor, "b s"], place_BT: Int64[Tensor, "b t"]) -> Int64[Tensor, "b t"]:
    """For some places, the last one before that holds the same key; -1 where there is none. By sorting."""
    sorted_BS, order_BS = key_BS.sort(dim=1, stable=True)
    before_BS = order_BS[:, :-1].masked_fill(sorted_BS[:, 1:] != sorted_BS[:, :-1], -1)
    return torch.full_like(key_BS, -1).scatter(1, order_BS[:, 1:], before_BS).gather(1, place_BT)


def last_of_few(key_BS: Int64[Tensor, "b s"], place_BT: Int64[Tensor, "b t"]) -> Int64[Tensor, "b t"]:
    """The same by comparing every key: the faster for single positions behind a long past."""
    place_S = torch.arange(key_BS.shape[1], device=key_BS.device)
    equal_BTS = (key_BS[:, None] == key_BS.gather(1, place_BT)[..., None]) & (place_S < place_BT[..., None])
    return torch.where(equal_BTS, place_S, -1).amax(-1)
