"""Look-back for dilated attention: queries also see the segment before their own.

Legend: as in `dilated_geometry.py`; a position of the document at which the segment before begins.

In branch (w, r), head j lets t see s <= t when it keeps both and floor(t/w) - floor(s/w) is 0 or 1, so that a segment's
first rows hear the past as its last rows do. Not in the paper. Behind the current segments of all branches, a cache
holds the kept rows of the segments before them: at most twice as many in all. A hole there repeats the stream's last
position too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Int64
from torch import Tensor

from everlong.kernels.pieces import Piece, Pieces, View
from everlong.sequence.dilated_geometry import Geometry, Stretch, layout
from everlong.sequence.dilation import Branch


@dataclass(frozen=True)
class LookBack:
    """A geometry whose queries also see the segment before."""

    inner: Geometry

    @property
    def heads(self) -> int:
        return self.inner.heads

    @property
    def kv_heads(self) -> int:
        return self.inner.kv_heads

    def pieces(self, stretch: Stretch) -> Pieces:
        """Every pair of every branch, in a stretch that continues a document."""
        found = list(self.inner.pieces(stretch))
        current, before = self.inner.blocks(stretch.position), self.blocks(stretch.position)
        for branch, own, previous in zip(self.inner.branches, current, before, strict=True):
            for begin, length, count, p in _parts(branch, stretch):
                a = stretch.position + begin - p - branch.length
                if count and length and a >= 0:
                    block = previous if a + branch.length <= stretch.position else own
                    found += self.back(branch, stretch, begin, length, count, p, block)
        return tuple(found)

    def back(
        self, branch: Branch, stretch: Stretch, begin: int, length: int, count: int, p: int, block: tuple[int, int]
    ) -> Iterator[Piece]:
        """Queries of `count` segments that follow each other, from position p of the first, and all kept rows of the
        segments before: those of the first may stand in a block of the cache, in part or as a whole."""
        (w, r), (base, size) = branch, block
        past = min(max(p + w - begin, 0), w)  # positions of the segment before that went before this stretch
        for run in self.inner.runs(branch, p, length, (w, past)):
            offset = (p + run.first) % r
            cached, kept = branch.kept(past, offset), branch.kept(w, offset)
            kv = (run.kv, run.kv_heads, run.kv_step)
            for query, key, cache, sequences, query_pitch, key_pitch in layout(branch, stretch, begin, count):
                of_queries = (run.rows, r, run.head, run.heads, run.head_step, run.skew)
                rows = View(query + run.first, sequences, query_pitch, *of_queries)
                if cached:
                    held = (cached, 1, *kv, run.slot_step * size)
                    yield Piece(rows, View(cache + base + run.slot * size, sequences, key_pitch, *held))
                if kept > cached:
                    first = key - p - w + offset + cached * r
                    yield Piece(rows, View(first, sequences, key_pitch, kept - cached, r, *kv, run.skew))

    def pairs(self, T: int) -> int:
        """Query-key pairs of the first T positions of a document, over all heads, with multiplicity."""
        total = self.inner.pairs(T)
        for branch in self.inner.branches:
            whole, tail = divmod(T, branch.length)
            for head in range(self.heads if whole else 0):
                offset = (head + self.inner.rotation) % branch.dilation
                full = branch.kept(branch.length, offset)
                total += full * ((whole - 1) * full + branch.kept(tail, offset))
        return total

    def blocks(self, position: int) -> list[tuple[int, int]]:
        """Place of the first entry, and entries of a slot, of every branch's segment before the current one, after
        `position` positions."""
        found, base = [], self.inner.entries(position)
        for branch in self.inner.branches:
            size = branch.kept(branch.length, 0) if position >= branch.length else 0
            found.append((base, size))
            base += self.inner.slots(branch) * size
        return found

    def entries(self, position: int) -> int:
        """Entries of a key/value head in the cache after `position` positions."""
        blocks = zip(self.inner.branches, self.blocks(position), strict=True)
        return self.inner.entries(position) + sum(self.inner.slots(b) * size for b, (_, size) in blocks)

    def positions(self, position: int, device: torch.device) -> Int64[Tensor, "s g"]:
        """The position in the document of every entry of the cache; `position` or more at a hole."""
        found = [self.inner.positions(position, device)]
        for branch, (_, size) in zip(self.inner.branches, self.blocks(position), strict=True):
            row_SG = self.inner.block_rows(branch, size, device)
            begin = position - position % branch.length - branch.length
            found.append(torch.where(row_SG < branch.length, begin + row_SG, position))
        return torch.cat(found)

    def sources(self, before: int, after: int, origin: int, device: torch.device) -> Int64[Tensor, "s g"]:
        """See `Geometry.sources`. What was the current segment may have become the one before."""
        old = [*self.inner.blocks(before), *self.blocks(before)]
        new = [*self.inner.blocks(after), *self.blocks(after)]
        count = len(self.inner.branches)
        position_SG = self.positions(after, device).clamp(max=after - 1)
        places = []
        for i, (_, size) in enumerate(new):
            branch = self.inner.branches[i % count]
            moved = i >= count and after // branch.length > before // branch.length
            places.append(self.inner.block_places(branch, old[i - count if moved else i], size, device))
        return torch.where(position_SG < before, torch.cat(places)[:, None], position_SG + origin)


def _parts(branch: Branch, stretch: Stretch) -> Iterator[tuple[int, int, int, int]]:
    """The stretch, cut at segments: first place, positions, number of segments, and position within the first. Only
    the first two can have cached rows before them, and so stand alone."""
    w, phase = branch.length, stretch.position % branch.length
    rest = min(w - phase, stretch.length) if phase else 0
    yield 0, rest, 1, phase
    second = min(w, stretch.length - rest)
    yield rest, second, 1, 0
    whole, tail = divmod(stretch.length - rest - second, w)
    yield rest + second, w, whole, 0
    yield stretch.length - tail, tail, 1, 0
