"""Attention inside patches that also sees the end of the patch before (MEGABYTE, arXiv 2305.07185, sec. 2.3.2).

Legend: B batch rows, T new positions, S joined places, M summary positions, H query heads, G key/value heads, E head
size.

With patches of P positions and an overlap of r, position t of a document sees

    A_t = {s <= t : s >= P floor(t/P) - r},

its own patch so far, and the last r positions of the one before. That is the fixed pattern of the Sparse Transformer
(`sparse.py`: block P, summary r) without the summaries of older blocks; so the cost is linear, and the state constant.
Patches are counted from a document's start. An overlap of whole patches would be a window instead.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from everlong.core.span import Span
from everlong.kernels.pieces import Piece, Pieces, View, Visibility
from everlong.sequence.cache import KeyValues, Ragged, keep_last, select
from everlong.sequence.sparse import SparseAttention, SparseKeyValues


class PatchAttention(SparseAttention):
    """Attention to the own patch, and across to the patch before. State: its last r positions, and the open patch."""

    class Config(SparseAttention.Config):
        """`block` is P, the positions of a patch; `summary` is r, those of the patch before that are seen."""

    def __init__(self, config: PatchAttention.Config) -> None:
        super().__init__(config)
        self.reach = self.block + self.summary

    def attend_plain(
        self, q_BTHE: Tensor, k_BTGE: Tensor, v_BTGE: Tensor, span: Span, state: Any
    ) -> tuple[Tensor, SparseKeyValues]:
        o_BTHE, after = super().attend_plain(q_BTHE, k_BTGE, v_BTGE, span, state)
        last = keep_last(after.summary.k_BSGD, after.summary.v_BSGD, self.summary)
        return o_BTHE, replace(after, summary=last)

    def sparse_pieces(self, B: int, T: int, S: int, M: int) -> Pieces:
        """The patch that is open, all whole ones, and what is begun at the end: its own positions, and the end of the
        patch before."""
        P = S - M - T  # cached positions of the open patch
        first = min(-P % self.block, T)
        whole = (T - first) // self.block
        stretches = (
            (0, 1, first),
            (first, whole, self.block),
            (first + whole * self.block, 1, T - first - whole * self.block),
        )
        pieces = []
        for begin, count, length in stretches:
            if count and length:
                pieces += self._patches(B, T, S, M, begin, count, length)
        return tuple(pieces)

    def _patches(self, B: int, T: int, S: int, M: int, begin: int, count: int, length: int) -> list[Piece]:
        """Patches that have `length` queries each in this call, the first of them at `begin`: one piece a row."""
        block, place = self.block, S - M - T + begin  # of the first query, from the cached patch's first position on
        own, finished = place // block * block, (S - M) // block
        pieces = []
        for b in range(B):
            query = View(b * T + begin, count, block, length)
            key = View(b * S + M + own, count, block, place - own + length)
            pieces.append(Piece(query, key, high=place - own))
            earlier = M - (finished - own // block) * self.summary  # summaries of all patches before the first
            skipped = 0 if earlier else 1  # the very first patch has none before it
            if count > skipped:
                sees = query._replace(offset=query.offset + skipped * block, count=count - skipped)
                last = b * S + earlier - self.summary + skipped * self.summary
                pieces.append(Piece(sees, View(last, count - skipped, self.summary, self.summary)))
        return pieces

    def pattern(self, ragged: Ragged, position_BS: Tensor) -> Visibility:
        """A query sees its own patch from its first place on, and the marked places of the one before."""
        seen = super().pattern(ragged, position_BS)
        return replace(seen, low_marked_BT=torch.maximum(ragged.first_BT, seen.low_BT - self.block))

    def keep(self, ragged: Ragged, position_BS: Tensor, k_BSGE: Tensor, v_BSGE: Tensor) -> SparseKeyValues:
        after = super().keep(ragged, position_BS, k_BSGE, v_BSGE)
        return replace(after, summary=_last(after.summary, self.summary))

    def visible_pairs(self, T: int) -> int:
        patches, rest = divmod(T, self.block)
        own = patches * self.block * (self.block + 1) // 2 + rest * (rest + 1) // 2
        return own + self.summary * max(0, T - self.block)

    def cached_positions(self, T: int) -> int:
        return (self.summary if self.block <= T else 0) + T % self.block


def _last(cache: KeyValues, rows: int) -> KeyValues:
    """The last positions of a cache whose rows are of different lengths."""
    S = cache.k_BSGD.shape[1]
    place_S = torch.arange(S, 0, -1, device=cache.k_BSGD.device)  # distance from the right end
    length_B = torch.full((len(cache.k_BSGD),), S, device=place_S.device) if cache.length_B is None else cache.length_B
    return select(place_S <= length_B.clamp(max=rows)[:, None], cache.k_BSGD, cache.v_BSGD)
