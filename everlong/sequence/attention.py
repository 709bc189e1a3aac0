"""Causal softmax attention: full, or over a sliding window of the last W positions.

Legend: B batch rows, T positions, S cached and new positions, D width, H query heads, G key/value heads, E head size.

    o_t = sum_{s in A_t} softmax_s(q_t k_s / sqrt(E)) v_s              (Vaswani et al. 2017, arXiv 1706.03762, eq. 1)

with A_t = {s <= t} in full attention, A_t = {t - W < s <= t} in a window (Beltagy et al. 2020, arXiv 2004.05150,
section 3.1), both within the document. With G < H, H/G query heads share a key/value head (Ainslie et al. 2023,
arXiv 2305.13245).
"""

from __future__ import annotations

from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from everlong.core.accounting import element_bytes, linear_flops
from everlong.core.config import check, check_divides
from everlong.core.part import Part
from everlong.core.span import Span
from everlong.kernels.attention import attend
from everlong.kernels.pieces import Piece, Pieces, View, Visibility, everything
from everlong.sequence.cache import KeyValues, Ragged, join, keep_last
from everlong.sequence.position import Position

QUERY_BLOCK = 1024  # queries of a ragged call that meet their keys in one piece; bounds the memory of its mask


class Attention(Part):
    """Full causal attention. State: every key and value of the document."""

    class Config(Part.Config):
        heads: int
        """H, query heads."""
        kv_heads: int | None = None
        """G, key/value heads; divides `heads`. `None`: as many."""
        position: Position | None
        """Position encoding of queries and keys."""

        def __post_init__(self) -> None:
            if self.kv_heads is None:
                object.__setattr__(self, "kv_heads", self.heads)  # so that equal models have equal configurations

    def __init__(self, config: Attention.Config) -> None:
        super().__init__()
        check(config.width >= 1, "attention.width", config.width, "must be at least 1")
        check_divides(config.heads, config.width, "attention.heads", "attention.width")
        assert config.kv_heads is not None  # see __post_init__
        check_divides(config.kv_heads, config.heads, "attention.kv_heads", "attention.heads")
        self.width, self.heads, self.kv_heads = config.width, config.heads, config.kv_heads
        self.head = config.width // config.heads
        check(
            config.position is None or self.head % 2 == 0,
            "attention.width / attention.heads",
            self.head,
            "a head must be even to be turned in pairs by RoPE or xPos: change heads or width, or position to None",
        )
        self.position = config.position.build() if config.position else None
        self.q = nn.Linear(config.width, config.width, bias=False)
        self.k = nn.Linear(config.width, self.kv_heads * self.head, bias=False)
        self.v = nn.Linear(config.width, self.kv_heads * self.head, bias=False)
        self.out = nn.Linear(config.width, config.width, bias=False)

    def forward(
        self, x_BTD: Float[Tensor, "b t d"], span: Span, state: Any = None
    ) -> tuple[Float[Tensor, "b t d"], Any]:
        """State: `KeyValues`, or what a subclass keeps instead; it knows its `length_B`."""
        q_BTHE = rearrange(self.q(x_BTD), "b t (h e) -> b t h e", h=self.heads)
        k_BTGE, v_BTGE = (rearrange(f(x_BTD), "b t (g e) -> b t g e", g=self.kv_heads) for f in (self.k, self.v))
        if self.position:
            q_BTHE, k_BTGE = self.position.turn(span.position_BT, q_BTHE, k_BTGE)
        ragged = not span.plain or (state is not None and state.length_B is not None)
        attend = self.attend_ragged if ragged else self.attend_plain
        o_BTHE, state = attend(q_BTHE, k_BTGE, v_BTGE, span, state)
        return self.out(rearrange(o_BTHE, "b t h e -> b t (h e)")), state

    def attend_plain(
        self, q_BTHE: Tensor, k_BTGE: Tensor, v_BTGE: Tensor, span: Span, state: KeyValues | None
    ) -> tuple[Tensor, KeyValues]:
        """All rows are one document and equally long."""
        k_BSGE, v_BSGE = join(state, k_BTGE, v_BTGE)
        (B, T), S = q_BTHE.shape[:2], k_BSGE.shape[1]
        o_BTHE = self.meet(q_BTHE, k_BSGE, v_BSGE, self.plain_pieces(B, T, S))
        return o_BTHE, keep_last(k_BSGE, v_BSGE, self.cache_rows)

    def attend_ragged(
        self, q_BTHE: Tensor, k_BTGE: Tensor, v_BTGE: Tensor, span: Span, state: KeyValues | None
    ) -> tuple[Tensor, KeyValues]:
        """Rows hold several documents, or bring different numbers of real positions."""
        ragged = Ragged.of(span, state)
        q_BTHE, k_BTGE, v_BTGE = (ragged.compact(x) for x in (q_BTHE, k_BTGE, v_BTGE))
        k_BSGE, v_BSGE = join(state, k_BTGE, v_BTGE)
        if state is None:
            pieces, visibility = self.document_pieces(ragged, q_BTHE.shape[1]), None
        else:
            pieces = self.ragged_pieces(q_BTHE.shape[0], q_BTHE.shape[1], k_BSGE.shape[1])
            visibility = ragged.visibility(self.reach)
        o_BTHE = self.meet(q_BTHE, k_BSGE, v_BSGE, pieces, visibility)
        return ragged.restore(o_BTHE), ragged.keep(k_BSGE, v_BSGE, self.cache_rows)

    def meet(
        self,
        q_BTHE: Tensor,
        k_BSGE: Tensor,
        v_BSGE: Tensor,
        pieces: Pieces,
        visibility: Visibility | None = None,
    ) -> Tensor:
        """Queries that are the last T of the S joined places meet the keys."""
        S, T = k_BSGE.shape[1], q_BTHE.shape[1]
        place_S = torch.arange(S, device=q_BTHE.device)
        q_BTHE, k_BSGE = self.scale_by_distance(q_BTHE, k_BSGE, place_S[S - T :], place_S)
        return attend(q_BTHE, k_BSGE, v_BSGE, pieces, visibility=visibility)

    def scale_by_distance(
        self, q_BTHE: Tensor, k_BSGE: Tensor, query_index: Tensor, key_index: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Applies the position encoding's decay, if it has one, between places on a common axis."""
        scales = self.position.scales(self.head, query_index, key_index) if self.position else None
        if scales is None:
            return q_BTHE, k_BSGE
        return q_BTHE * scales[0].to(q_BTHE.dtype), k_BSGE * scales[1].to(k_BSGE.dtype)

    reach: int | None = None
    """How many of the last positions a query sees, itself included; `None`: all."""

    @property
    def cache_rows(self) -> int | None:
        """How many positions the cache keeps; `None`: all."""
        return None if self.reach is None else self.reach - 1

    def plain_pieces(self, B: int, T: int, S: int) -> Pieces:
        """All earlier keys, then a causal square."""
        if T == 1:
            return everything(B, S)
        query, past = View(0, B, T, T), S - T
        square = Piece(query, View(past, B, S, T), high=0)
        return (square, Piece(query, View(0, B, S, past))) if past else (square,)

    def document_pieces(self, ragged: Ragged, T: int) -> Pieces:
        """Document by document, each at the cost that it has alone, where nothing is cached."""
        pieces = []
        for row, rows, begin, length in ragged.documents():
            place = row * T + begin
            alone = self.plain_pieces(rows, length, length)
            pieces += [
                piece._replace(query=piece.query.shifted(place), key=piece.key.shifted(place)) for piece in alone
            ]
        return tuple(pieces)

    def ragged_pieces(self, B: int, T: int, S: int) -> Pieces:
        """Blocks of queries, each with all keys that any of them can reach."""
        pieces = []
        for start in range(0, T, QUERY_BLOCK):
            length = min(QUERY_BLOCK, T - start)
            end = S - T + start + length
            begin = 0 if self.reach is None else max(0, end - length - self.reach + 1)
            pieces.append(Piece(View(start, B, T, length), View(begin, B, S, end - begin)))
        return tuple(pieces)

    def flops(self, T: int) -> int:
        return linear_flops(self.q, self.k, self.v, self.out, T=T) + 4 * self.width * self.visible_pairs(T)

    def visible_pairs(self, T: int) -> int:
        """Query-key pairs that a head looks at in the first T positions of a document."""
        return T * (T + 1) // 2

    def state_bytes(self, T: int) -> int:
        return 2 * self.cached_positions(T) * self.kv_heads * self.head * element_bytes(self)

    def cached_positions(self, T: int) -> int:
        """Positions in the cache after T."""
        return T

    def residual_writers(self) -> list[nn.Linear]:
        return [self.out]


class WindowAttention(Attention):
    """Attention to the last W positions. State: the last W - 1 keys and values; constant once filled."""

    class Config(Attention.Config):
        window: int
        """W, positions a query sees, itself included."""

    def __init__(self, config: WindowAttention.Config) -> None:
        super().__init__(config)
        check(
            config.window >= 1,
            "window_attention.window",
            config.window,
            "must be at least 1: a query sees itself",
        )
        self.window = self.reach = config.window

    def plain_pieces(self, B: int, T: int, S: int) -> Pieces:
        """Blocks of W queries; each sees its own block causally, and of the block before it the keys that are less
        than W away. Blocks start at the first query, so the cache is the (shorter) block before the first."""
        W, past = self.window, S - T
        if T == 1 and S <= W:
            return everything(B, S)
        pieces = []
        if past and W > 1:
            cached = min(past, W - 1)
            first = View(0, B, T, min(T, W - 1))
            pieces.append(Piece(first, View(past - cached, B, S, cached), low=cached - W + 1))
        for start, count, length in ((0, T // W, W), (T - T % W, 1, T % W)):
            if count and length:
                pieces += _blocks(B, T, S, past, start, count, length, W)
        return tuple(pieces)

    def visible_pairs(self, T: int) -> int:
        filled = min(T, self.window)
        return filled * (filled + 1) // 2 + (T - filled) * self.window

    def cached_positions(self, T: int) -> int:
        return min(T, self.window - 1)


def _blocks(B: int, T: int, S: int, past: int, start: int, count: int, length: int, W: int) -> list[Piece]:
    """Own-block and previous-block pieces of `count` consecutive blocks of W positions (`length` of them queries),
    as few pieces as strides allow: one for each row, or one for each block, whichever is fewer."""

    def pieces(lag: int, first: int, blocks: int, **band: int) -> list[Piece]:
        q, k = start + first * W, past + start + (first - lag) * W
        keys = W if lag else length
        if blocks <= B:
            return [Piece(View(q + i * W, B, T, length), View(k + i * W, B, S, keys), **band) for i in range(blocks)]
        return [Piece(View(q + b * T, blocks, W, length), View(k + b * S, blocks, W, keys), **band) for b in range(B)]

    own = pieces(0, 0, count, high=0)
    first = 0 if start else 1  # the very first block has no block before it, only the cache
    previous = pieces(1, first, count - first, low=1) if count > first and W > 1 else []
    return own + previous
