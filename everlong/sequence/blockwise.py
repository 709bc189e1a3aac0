"""Blockwise causal attention: dense attention for texts beyond the trained length, with the weights of `Attention`.

Legend: B batch rows, T new positions, S cached and new positions, H query heads, G key/value heads, E head size.

The text is cut into blocks of l positions, at most half of the trained length each; position t sees its own block and
the one before (Sun et al. 2022, arXiv 2212.10554, section 3.3),

    A_t = {s <= t : floor(s/l) >= floor(t/l) - 1},

so that no distance comes up that training has not shown.
"""

from __future__ import annotations

import torch
from torch import Tensor

from everlong.core.config import check
from everlong.core.span import Span
from everlong.kernels.pieces import Piece, Pieces, View, Visibility
from everlong.sequence.attention import Attention
from everlong.sequence.cache import KeyValues, Ragged, join, keep_last


class BlockwiseAttention(Attention):
    """Attention to the own block and the one before. State: the last finished block and the current one."""

    class Config(Attention.Config):
        block: int
        """l, positions a block."""

    def __init__(self, config: BlockwiseAttention.Config) -> None:
        super().__init__(config)
        check(config.block >= 1, "blockwise_attention.block", config.block, "must be at least 1")
        self.block, self.reach = config.block, 2 * config.block

    def attend_plain(
        self, q_BTHE: Tensor, k_BTGE: Tensor, v_BTGE: Tensor, span: Span, state: KeyValues | None
    ) -> tuple[Tensor, KeyValues]:
        k_BSGE, v_BSGE = join(state, k_BTGE, v_BTGE)  # from the start of a block on
        (B, T), S = q_BTHE.shape[:2], k_BSGE.shape[1]
        o_BTHE = self.meet(q_BTHE, k_BSGE, v_BSGE, self.plain_pieces(B, T, S))
        return o_BTHE, keep_last(k_BSGE, v_BSGE, self.cached_positions(S))

    def plain_pieces(self, B: int, T: int, S: int) -> Pieces:
        """For every block of queries: its own block so far, and all of the block before it."""
        pieces = []
        for begin in range((S - T) // self.block * self.block, S, self.block):
            first, last = max(begin, S - T), min(begin + self.block, S)
            query = View(first - (S - T), B, T, last - first)
            pieces.append(Piece(query, View(begin, B, S, last - begin), high=first - begin))
            if begin:
                pieces.append(Piece(query, View(begin - self.block, B, S, self.block)))
        return tuple(pieces)

    def attend_ragged(
        self, q_BTHE: Tensor, k_BTGE: Tensor, v_BTGE: Tensor, span: Span, state: KeyValues | None
    ) -> tuple[Tensor, KeyValues]:
        """Dense over what two blocks can reach, with the blocks as visibility: they begin where documents do."""
        ragged = Ragged.of(span, state)
        q_BTHE, k_BTGE, v_BTGE = (ragged.compact(x) for x in (q_BTHE, k_BTGE, v_BTGE))
        k_BSGE, v_BSGE = join(state, k_BTGE, v_BTGE)
        before_BT = (ragged.place_T - ragged.first_BT) // self.block - 1  # blocks of the document before the last two
        low_BT = ragged.first_BT + before_BT.clamp(min=0) * self.block
        visibility = Visibility(low_BT, ragged.high_BT, ragged.order_BS)
        pieces = self.ragged_pieces(q_BTHE.shape[0], q_BTHE.shape[1], k_BSGE.shape[1])
        o_BTHE = self.meet(q_BTHE, k_BSGE, v_BSGE, pieces, visibility)
        length_B = ragged.past + ragged.count_B - ragged.begin_B
        rows_B = torch.where(length_B < self.block, length_B, self.block + length_B % self.block)
        return ragged.restore(o_BTHE), ragged.keep(k_BSGE, v_BSGE, rows_B)

    def visible_pairs(self, T: int) -> int:
        blocks, rest = divmod(T, self.block)
        own = blocks * self.block * (self.block + 1) // 2 + rest * (rest + 1) // 2
        return own + max(0, T - self.block) * self.block

    def cached_positions(self, T: int) -> int:
        return min(T, self.block + T % self.block)
