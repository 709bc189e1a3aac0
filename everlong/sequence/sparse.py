"""The fixed pattern of the Sparse Transformer (Child et al. 2019, arXiv 1904.10509, section 4.3), merged in one head.

Legend: B batch rows, T new positions, P cached positions of the current block, M summary positions, S = M + P + T
joined places, H query heads, G key/value heads, E head size.

With stride l and c summary positions a block, position t sees

    A_t = {s <= t : floor(s/l) = floor(t/l)}  union  {s < l floor(t/l) : s mod l >= l - c},

its own block, and the last c positions of every block before it ("merged" heads, eq. 6: one softmax over the union).
"""

from __future__ import annotations

import torch
from einops import rearrange
from jaxtyping import Float, Int64
from torch import Tensor

from everlong.core.config import check
from everlong.core.span import Span
from everlong.core.state import State
from everlong.kernels.attention import attend
from everlong.kernels.pieces import Piece, Pieces, View, Visibility
from everlong.sequence.attention import Attention
from everlong.sequence.cache import KeyValues, Ragged, join, select


class SparseKeyValues(State):
    """The summary positions of the finished blocks, and the positions of the current block."""

    summary: KeyValues
    block: KeyValues

    @property
    def length_B(self) -> Int64[Tensor, " b"] | None:
        """Positions of the current block in every row, where rows differ in them, or else in their summaries; `None`
        where they are alike."""
        return self.block.length_B if self.summary.length_B is None else _lengths(self)[1]


class SparseAttention(Attention):
    """Fixed sparse attention. State: c positions a finished block, and the current block."""

    class Config(Attention.Config):
        block: int
        """l, positions a block."""
        summary: int
        """c, positions at a block's end that all later blocks see."""

    def __init__(self, config: SparseAttention.Config) -> None:
        super().__init__(config)
        check(config.block >= 1, "sparse_attention.block", config.block, "must be at least 1")
        remedy = f"must lie between 1 and the block's length, {config.block}"
        check(1 <= config.summary <= config.block, "sparse_attention.summary", config.summary, remedy)
        self.block, self.summary = config.block, config.summary

    def attend_plain(
        self, q_BTHE: Tensor, k_BTGE: Tensor, v_BTGE: Tensor, span: Span, state: SparseKeyValues | None
    ) -> tuple[Tensor, SparseKeyValues]:
        k_BLGE, v_BLGE = join(state and state.block, k_BTGE, v_BTGE)  # from the current block's first position on
        finished = k_BLGE.shape[1] // self.block * self.block
        k_BMGE, v_BMGE = join(state and state.summary, self.summaries(k_BLGE), self.summaries(v_BLGE))
        o_BTHE = self.meet_both(q_BTHE, torch.cat([k_BMGE, k_BLGE], 1), torch.cat([v_BMGE, v_BLGE], 1), k_BMGE.shape[1])
        block = KeyValues(k_BLGE[:, finished:].clone(), v_BLGE[:, finished:].clone())
        return o_BTHE, SparseKeyValues(KeyValues(k_BMGE, v_BMGE), block)

    def summaries(self, x_BLGE: Float[Tensor, "b t g e"]) -> Float[Tensor, "b m g e"]:
        """The last c positions of every finished block, copied so as not to pin the call."""
        finished = x_BLGE.shape[1] // self.block * self.block
        blocks = rearrange(x_BLGE[:, :finished], "b (n l) g e -> b n l g e", l=self.block)
        return rearrange(blocks[:, :, self.block - self.summary :], "b n c g e -> b (n c) g e").clone()

    def meet_both(self, q_BTHE: Tensor, k_BSGE: Tensor, v_BSGE: Tensor, M: int) -> Tensor:
        """Queries meet M summaries followed by the blocks that they stand in."""
        (B, T), S = q_BTHE.shape[:2], k_BSGE.shape[1]
        index = torch.arange(M, device=q_BTHE.device)
        summary_index = index // self.summary * self.block + self.block - self.summary + index % self.summary
        finished_now = (S - M) // self.block
        origin = (M // self.summary - finished_now) * self.block  # position of the first place behind the summaries
        place = torch.arange(origin, origin + S - M, device=q_BTHE.device)
        key_index = torch.cat([summary_index, place])
        q_BTHE, k_BSGE = self.scale_by_distance(q_BTHE, k_BSGE, place[S - M - T :], key_index)
        return attend(q_BTHE, k_BSGE, v_BSGE, self.sparse_pieces(B, T, S, M))

    def sparse_pieces(self, B: int, T: int, S: int, M: int) -> Pieces:
        """For every block of queries: its own block so far, and all summaries of earlier blocks."""
        P = S - M - T  # cached positions of the current block
        pieces = []
        for begin in range(0, P + T, self.block):
            first, last = max(begin, P), min(begin + self.block, P + T)
            query = View(first - P, B, T, last - first)
            pieces.append(Piece(query, View(M + begin, B, S, last - begin), high=first - begin))
            earlier = M - ((P + T) // self.block - begin // self.block) * self.summary
            if earlier:
                pieces.append(Piece(query, View(0, B, S, earlier)))
        return tuple(pieces)

    def attend_ragged(
        self, q_BTHE: Tensor, k_BTGE: Tensor, v_BTGE: Tensor, span: Span, state: SparseKeyValues | None
    ) -> tuple[Tensor, SparseKeyValues]:
        """Dense over what is cached and new, with the pattern as visibility: blocks begin where documents do, so
        rows do not share a geometry."""
        cache = None if state is None else _joined(state)
        ragged = Ragged.of(span, cache)
        q_BTHE, k_BTGE, v_BTGE = (ragged.compact(x) for x in (q_BTHE, k_BTGE, v_BTGE))
        k_BSGE, v_BSGE = join(cache, k_BTGE, v_BTGE)
        index_BS, position_BS = self.positions(ragged, state)
        q_BTHE, k_scaled = self.scale_by_distance(q_BTHE, k_BSGE, index_BS[:, ragged.past :], index_BS)
        pieces = self.ragged_pieces(q_BTHE.shape[0], q_BTHE.shape[1], k_BSGE.shape[1])
        visibility = self.pattern(ragged, position_BS)
        o_BTHE = attend(q_BTHE, k_scaled, v_BSGE, pieces, visibility=visibility)
        return ragged.restore(o_BTHE), self.keep(ragged, position_BS, k_BSGE, v_BSGE)

    def positions(self, ragged: Ragged, state: SparseKeyValues | None) -> tuple[Tensor, Tensor]:
        """For every joined place: its index on an axis on which distances within a document hold, and its position
        in its own document."""
        summary_B, block_B = _lengths(state) if state else (torch.zeros_like(ragged.count_B),) * 2
        rank_B = summary_B // self.summary * self.block + block_B  # positions of the cached document so far
        place_S = torch.arange(ragged.order_BS.shape[1], device=rank_B.device)
        cached_BS = place_S - (ragged.past - ragged.cached_B)[:, None]
        finished_BS = cached_BS // self.summary * self.block + self.block - self.summary + cached_BS % self.summary
        index_BS = torch.where(cached_BS < summary_B[:, None], finished_BS, (rank_B - ragged.past)[:, None] + place_S)
        own_BT = torch.where(
            ragged.first_BT < ragged.past, index_BS[:, ragged.past :], ragged.place_T - ragged.first_BT
        )
        return index_BS, torch.cat([index_BS[:, : ragged.past], own_BT], dim=1)

    def marked(self, position_BS: Tensor) -> Tensor:
        """Which positions are summaries."""
        return position_BS % self.block >= self.block - self.summary

    def pattern(self, ragged: Ragged, position_BS: Tensor) -> Visibility:
        """A query sees its own block from the block's first place on, and summaries from the document's."""
        low_BT = ragged.place_T - position_BS[:, ragged.past :] % self.block
        marked_BS = self.marked(position_BS)
        return Visibility(low_BT, ragged.high_BT, ragged.order_BS, ragged.first_BT, marked_BS)

    def keep(self, ragged: Ragged, position_BS: Tensor, k_BSGE: Tensor, v_BSGE: Tensor) -> SparseKeyValues:
        """The state after a ragged call."""
        place_S = torch.arange(position_BS.shape[1], device=position_BS.device)
        current_BS = ragged.real_BS & (place_S >= ragged.begin_B[:, None])
        last_B1 = torch.where(current_BS, position_BS, -1).amax(1, keepdim=True)
        boundary_B1 = (last_B1 + 1) // self.block * self.block
        summary_BS = current_BS & (position_BS < boundary_B1) & self.marked(position_BS)
        block_BS = current_BS & (position_BS >= boundary_B1)
        return SparseKeyValues(select(summary_BS, k_BSGE, v_BSGE), select(block_BS, k_BSGE, v_BSGE))

    def visible_pairs(self, T: int) -> int:
        blocks, rest = divmod(T, self.block)
        own = blocks * self.block * (self.block + 1) // 2 + rest * (rest + 1) // 2
        return own + self.summary * (self.block * blocks * (blocks - 1) // 2 + rest * blocks)

    def cached_positions(self, T: int) -> int:
        return T // self.block * self.summary + T % self.block


def _lengths(state: SparseKeyValues) -> tuple[Tensor, Tensor]:
    """Summary and block positions in every row."""

    def of(cache: KeyValues) -> Tensor:
        B, S = cache.k_BSGD.shape[:2]
        return cache.length_B if cache.length_B is not None else torch.full((B,), S, device=cache.k_BSGD.device)

    return of(state.summary), of(state.block)


def _joined(state: SparseKeyValues) -> KeyValues:
    """Summary and block positions as one right-aligned cache."""
    k_BSGE, v_BSGE = join(state.summary, state.block.k_BSGD, state.block.v_BSGD)
    sizes = [state.summary.k_BSGD.shape[1], state.block.k_BSGD.shape[1]]
    ends = [torch.arange(size, 0, -1, device=k_BSGE.device) for size in sizes]  # distance from the right end
    pairs = zip(ends, _lengths(state), strict=True)
    keep_BS = torch.cat([end <= length[:, None] for end, length in pairs], dim=1)
    return select(keep_BS, k_BSGE, v_BSGE)
