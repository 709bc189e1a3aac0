"""Where the segments of documents lie in a call.

Legend: B batch rows, T new positions in compact order (real ones first), S cached and new positions, N positions of a
segment; K segments that a row closes, J stretches of new positions, each in one segment, L positions of the longest.

A segment is closed by its last position. The positions of a document's first segment find nothing in the memory, so
that only later ones are gathered into stretches, and a row of many short documents has none.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from everlong.core.span import Span
from everlong.sequence.cache import Ragged
from everlong.sequence.infini_memory import Memory


def stretches(T: int, past: int, N: int) -> list[tuple[int, int, int]]:
    """T new positions behind `past` of an open segment, as runs of segments: first position, segments, positions of
    each. The rest of the open segment, then whole segments, then what is left."""
    rest = min((N - past) % N if past else 0, T)
    whole, tail = divmod(T - rest, N)
    runs = ((0, 1, rest), (rest, whole, N), (T - tail, 1, tail))
    return [run for run in runs if run[1] and run[2]]


@dataclass(frozen=True, eq=False)
class Segments:
    """The segments of one call whose rows hold several documents, or differ in length."""

    begin_BT: Int64[Tensor, "b t"]
    """Joined place of the first position of a position's segment."""
    closed_BKN: Int64[Tensor, "b k n"]
    """Joined places of the segments that are closed, in order; zeros where a row closes fewer than others."""
    exists_BK: Bool[Tensor, "b k"]
    """Whether there is such a segment."""
    fresh_BK: Bool[Tensor, "b k"]
    """Whether it is the first of a document that begins in this call."""
    slot_BT: Int64[Tensor, "b t"]
    """Place of a position on the axis of all stretches, J L; arbitrary where `older_BT` is false."""
    older_BT: Bool[Tensor, "b t"]
    """Whether a position stands behind a closed segment of its document, or may do so."""
    index_BJL: Int64[Tensor, "b j l"]
    """Compact place of the positions of stretches; arbitrary beyond their end."""
    memory_BJ: Int64[Tensor, "b j"]
    """How many segments of the row are closed before a stretch."""
    memory_B: Int64[Tensor, " b"]
    """How many are closed in all."""
    lives_B: Bool[Tensor, " b"]
    """Whether that memory belongs to the document that the row is in at last."""
    rest_B: Int64[Tensor, " b"]
    """Positions of the segment that stays open."""

    @classmethod
    def of(cls, ragged: Ragged, span: Span, N: int) -> Segments:
        place_T, count_B1 = ragged.place_T - ragged.past, ragged.count_B[:, None]
        real_BT = place_T < count_B1
        starts = torch.zeros_like(real_BT) if span.start_BT is None else span.start_BT.gather(1, ragged.index_BT)
        begun_BT = (starts & real_BT).cumsum(1) > 0
        index_BT = ragged.place_T - ragged.first_BT  # in the document, or from where the open segment begins
        within_BT = index_BT % N
        closes_BT = real_BT & (within_BT == N - 1)
        end_BK, exists_BK = _listed(closes_BT)
        first_BT = begun_BT & (index_BT < N)
        older_BT = real_BT & ~first_BT
        begins_BT = older_BT & ((within_BT == 0) | (place_T == 0))
        length_B = ragged.past + ragged.count_B - ragged.begin_B
        slot_BT, index_BJL, begin_BJ = _grid(begins_BT, older_BT)
        return cls(
            begin_BT=ragged.place_T - within_BT,
            closed_BKN=(ragged.past + end_BK[..., None] - torch.arange(N - 1, -1, -1, device=end_BK.device)).clamp(0),
            exists_BK=exists_BK,
            fresh_BK=exists_BK & first_BT.gather(1, end_BK),
            slot_BT=slot_BT,
            older_BT=older_BT,
            index_BJL=index_BJL,
            memory_BJ=(closes_BT.cumsum(1) - closes_BT.long()).gather(1, begin_BJ),
            memory_B=closes_BT.sum(1),
            lives_B=~(starts & real_BT).any(1) | (length_B >= N),
            rest_B=length_B % N,
        )

    def closed(self, x_BSGE: Float[Tensor, "b s g e"]) -> Float[Tensor, "b k n g e"]:
        """Keys or values of the closed segments; zeros where there is none."""
        x_BKNGE = _gathered(x_BSGE, self.closed_BKN)
        return x_BKNGE.masked_fill(~self.exists_BK[..., None, None, None], 0)

    def stretches(self, q_BTHE: Float[Tensor, "b t h e"]) -> Float[Tensor, "b j l h e"]:
        """Queries, stretch by stretch."""
        return _gathered(q_BTHE, self.index_BJL)

    def places(self, x_BJLHE: Tensor, others_BTHE: Tensor) -> Tensor:
        """What stretches found, position by position, (B, T, H, E); for those in none, what is given."""
        _, J, L, _, _ = x_BJLHE.shape
        if not J:
            return others_BTHE
        slot_BT = self.slot_BT.clamp(max=J * L - 1)
        return torch.where(self.older_BT[..., None, None], _gathered(x_BJLHE.flatten(1, 2), slot_BT), others_BTHE)

    def before(self, memories: Memory) -> Memory:
        """The memory that each stretch reads."""
        return Memory(*(_gathered(x, self.memory_BJ) for x in (memories.m_BGEF, memories.z_BGE)))

    def after(self, memories: Memory) -> Memory:
        """The memory that each row is left with; an empty one if its document has closed no segment."""
        left = (_gathered(x, self.memory_B[:, None])[:, 0] for x in (memories.m_BGEF, memories.z_BGE))
        return Memory(*(x * self.lives_B.view(-1, *[1] * (x.ndim - 1)) for x in left))


def _grid(begins_BT: Tensor, member_BT: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Stretches that begin at some members and go on over those that follow: where each member stands on a grid (J, L),
    which position stands at a place of it, and where stretches begin."""
    B, T = begins_BT.shape
    begin_BJ, _ = _listed(begins_BT)
    t_BT = torch.arange(T, device=begins_BT.device).expand(B, T)
    J = begin_BJ.shape[1]
    if not J:
        return torch.zeros_like(t_BT), begin_BJ[..., None], begin_BJ
    stretch_BT = (begins_BT.cumsum(1) - 1).clamp(min=0)
    offset_BT = torch.where(member_BT, t_BT - begin_BJ.gather(1, stretch_BT), 0)
    L = int(offset_BT.max()) + 1
    slot_BT = stretch_BT * L + offset_BT
    spare = torch.where(member_BT, slot_BT, J * L)  # all others go to one place behind the grid, which is cut off
    index_BM = t_BT.new_zeros(B, J * L + 1).scatter(1, spare, t_BT)[:, :-1]
    return slot_BT, index_BM.unflatten(1, (J, L)), begin_BJ


def _listed(mark_BT: Tensor) -> tuple[Tensor, Tensor]:
    """The marked positions of each row, in order, and which of them exist in rows that have fewer."""
    count_B = mark_BT.sum(1)
    size = int(count_B.max())
    index_BK = torch.argsort((~mark_BT).byte(), dim=1, stable=True)[:, :size]
    return index_BK, mark_BT.gather(1, index_BK)


def _gathered(x_BS: Tensor, index_B: Tensor) -> Tensor:
    """Positions of every row, by an index of any shape (B, ...)."""
    flat_BR = index_B.flatten(1)
    wide = flat_BR.view(*flat_BR.shape, *[1] * (x_BS.ndim - 2)).expand(-1, -1, *x_BS.shape[2:])
    return x_BS.gather(1, wide).view(*index_B.shape, *x_BS.shape[2:])
