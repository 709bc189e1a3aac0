"""The geometry of dilated attention: which positions a head keeps, as pieces, and where a cache holds them.

Legend: B batch rows, T new positions, S joined places (cached entries, then new positions), H query heads, G
key/value heads (n = H/G query heads share one), t position in the document; of a branch: w segment length, r
dilation, p = t mod w.

Head j keeps, of every segment of branch (w, r), the rows with (t mod w) mod r = j mod r (Ding et al. 2023, LongNet,
arXiv 2307.02486, eq. 3-5 and 13-15). The heads of a branch are covered in one of two ways, whichever takes fewer
pieces: neighbouring heads begin one row apart, so that one view with a skew holds a run of them (the diagonal); or
heads whose offsets are equal form a comb.

A cache keeps, of every branch, the kept rows of the segment that the stream is in: ceil(p / r) of every slot. Query
heads that share a key/value head and keep the same rows share a slot, so a key/value head has min(n, r) of them. In a
slot that keeps one row less than others the last entry is a hole: it is never read, and repeats the stream's last
position, so that a state does not depend on how it came about.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import NamedTuple

import torch
from jaxtyping import Int64
from torch import Tensor

from everlong.kernels.pieces import UNBOUNDED, Piece, Pieces, View
from everlong.sequence.dilation import Branch


class Run(NamedTuple):
    """Heads that one view covers, and what they keep of a stretch of a segment."""

    head: int
    heads: int
    head_step: int
    skew: int
    kv: int
    kv_heads: int
    kv_step: int
    slot: int
    slot_step: int
    first: int
    """Row, of the stretch, that the first head keeps first."""
    rows: int
    """Rows of the stretch that each head keeps."""
    cached: int
    """Rows of the segment that each head kept before the stretch."""


class _Head(NamedTuple):
    head: int
    kv: int
    slot: int
    first: int
    rows: int
    cached: int
    beyond: tuple[int, ...]


@dataclass(frozen=True)
class Stretch:
    """T positions of one document that go through the operator together, in `count` batch rows that are alike."""

    count: int
    position: int
    """Positions of the document before these."""
    length: int
    query: int
    """Place of the first query on the flattened axis of all queries."""
    query_row: int
    """Places from one batch row to the next."""
    key: int
    """Place of the first new key on the flattened axis of all keys."""
    key_row: int
    cache: int = 0
    """Place of the first cached entry."""


@dataclass(frozen=True)
class Geometry:
    """Branches, and the heads that they are laid out over."""

    branches: tuple[Branch, ...]
    heads: int
    kv_heads: int
    rotation: int = 0
    """Added to a head's number before its offset is taken; 0 in the paper."""

    @property
    def shared(self) -> int:
        """n, query heads that share a key/value head."""
        return self.heads // self.kv_heads

    def slots(self, branch: Branch) -> int:
        """Different selections of rows that the query heads of one key/value head keep."""
        return min(self.shared, branch.dilation)

    # --- Pieces ------------------------------------------------------------------------------------------------

    def pieces(self, stretch: Stretch, causal: bool = True) -> Pieces:
        """Every pair of every branch, in a stretch that continues a document."""
        found: list[Piece] = []
        for branch, (base, size) in zip(self.branches, self.blocks(stretch.position), strict=True):
            w, phase = branch.length, stretch.position % branch.length
            rest = min(w - phase, stretch.length) if phase else 0  # of the segment that the stream is in
            whole, tail = divmod(stretch.length - rest, w)
            parts = ((0, rest, 1, phase), (rest, w, whole, 0), (stretch.length - tail, tail, 1, 0))
            for begin, length, count, p in parts:
                if count and length:
                    for run in self.runs(branch, p, length):
                        found.extend(_run_pieces(branch, run, stretch, begin, count, (base, size), causal))
        return tuple(found)

    def runs(self, branch: Branch, p: int, length: int, parts: tuple[int, ...] = ()) -> list[Run]:
        """The heads that keep rows among `length` positions from position p of a segment on. Heads that keep different
        numbers of rows in the first `parts` positions of a segment come in different runs."""
        live = []
        for head in range(self.heads):
            offset = (head + self.rotation) % branch.dilation
            first = (offset - p) % branch.dilation
            if rows := branch.kept(length, first):
                slot, cached = head % self.slots(branch), branch.kept(p, offset)
                beyond = tuple(branch.kept(part, offset) for part in parts)
                live.append(_Head(head, head // self.shared, slot, first, rows, cached, beyond))
        ways = (list(_combs(live)), list(_diagonals(live, self.shared)))
        return min(ways, key=len)

    def pairs(self, T: int) -> int:
        """Query-key pairs of the first T positions of a document, over all heads, with multiplicity."""
        total = 0
        for branch in self.branches:
            whole, tail = divmod(T, branch.length)
            for head in range(self.heads):
                offset = (head + self.rotation) % branch.dilation
                full, rest = branch.kept(branch.length, offset), branch.kept(tail, offset)
                total += (whole * full * (full + 1) + rest * (rest + 1)) // 2
        return total

    # --- Cache -------------------------------------------------------------------------------------------------

    def blocks(self, position: int) -> list[tuple[int, int]]:
        """Place of the first entry, and entries of a slot, of every branch in the cache after `position` positions."""
        found, base = [], 0
        for branch in self.branches:
            size = branch.kept(position % branch.length, 0)
            found.append((base, size))
            base += self.slots(branch) * size
        return found

    def entries(self, position: int) -> int:
        """Entries of a key/value head in the cache after `position` positions."""
        return sum(self.slots(b) * b.kept(position % b.length, 0) for b in self.branches)

    def positions(self, position: int, device: torch.device) -> Int64[Tensor, "s g"]:
        """The position in the document of every entry of the cache; `position` or more at a hole."""
        blocks = zip(self.branches, self.blocks(position), strict=True)
        return torch.cat([self.block_rows(b, size, device) + position - position % b.length for b, (_, size) in blocks])

    def block_rows(self, branch: Branch, size: int, device: torch.device) -> Int64[Tensor, "s g"]:
        """The rows, of a segment, that stand in a block of `size` entries a slot."""
        row = torch.arange(size, device=device)[:, None] * branch.dilation
        slot = torch.arange(self.slots(branch), device=device)[:, None, None]
        group = torch.arange(self.kv_heads, device=device) * self.shared
        offset = slot if self.shared > branch.dilation else group + slot
        first = (offset + self.rotation) % branch.dilation
        return (row + first).expand(self.slots(branch), size, self.kv_heads).flatten(0, 1)

    def block_places(self, branch: Branch, block: tuple[int, int], size: int, device: torch.device) -> Tensor:
        """Where the first `size` entries of every slot stand in a block, (entries)."""
        slot = torch.arange(self.slots(branch), device=device)[:, None] * block[1]
        return (block[0] + slot + torch.arange(size, device=device)).flatten()

    def sources(self, before: int, after: int, origin: int, device: torch.device) -> Int64[Tensor, "s g"]:
        """For every entry of the cache after `after` positions, its joined place while the cache is still the one
        after `before` positions. The document's position 0 stands at the joined place `origin`."""
        position_SG = self.positions(after, device).clamp(max=after - 1)
        blocks = zip(self.branches, self.blocks(before), self.blocks(after), strict=True)
        old_S = torch.cat([self.block_places(b, block, size, device) for b, block, (_, size) in blocks])
        return torch.where(position_SG < before, old_S[:, None], position_SG + origin)


def _run_pieces(
    branch: Branch, run: Run, stretch: Stretch, begin: int, count: int, block: tuple[int, int], causal: bool
) -> Iterator[Piece]:
    """Heads of `count` segments that follow each other from `begin` on; the first may have rows in the cache."""
    for query, key, cache, sequences, query_pitch, key_pitch in layout(branch, stretch, begin, count):
        of_queries = (run.rows, branch.dilation, run.head, run.heads, run.head_step, run.skew)
        of_keys = (run.rows, branch.dilation, run.kv, run.kv_heads, run.kv_step, run.skew)
        rows = View(query + run.first, sequences, query_pitch, *of_queries)
        yield Piece(rows, View(key + run.first, sequences, key_pitch, *of_keys), high=0 if causal else UNBOUNDED)
        if run.cached:
            base, size = block
            kept = (run.cached, 1, run.kv, run.kv_heads, run.kv_step, run.slot_step * size)
            yield Piece(rows, View(cache + base + run.slot * size, sequences, key_pitch, *kept))


def layout(branch: Branch, stretch: Stretch, begin: int, count: int) -> Iterator[tuple[int, int, int, int, int, int]]:
    """First query, key and cached place, number of sequences, and what lies between two of them: all segments at
    once where batch rows follow each other like segments, else those of one batch row, or one of all batch rows."""
    w, query, key = branch.length, stretch.query + begin, stretch.key + begin
    if count * w == stretch.query_row == stretch.key_row:
        yield query, key, stretch.cache, count * stretch.count, w, w
    elif count <= stretch.count:
        for i in range(count):
            yield query + i * w, key + i * w, stretch.cache, stretch.count, stretch.query_row, stretch.key_row
    else:
        for b in range(stretch.count):
            starts = (query + b * stretch.query_row, key + b * stretch.key_row, stretch.cache + b * stretch.key_row)
            yield *starts, count, w, w


def _diagonals(heads: list[_Head], shared: int) -> Iterator[Run]:
    """Runs of neighbouring heads, each of which begins one row after the one before."""
    run: list[_Head] = []
    for head in heads:
        if run and not _follows(run[-1], head, shared):
            yield _run(run, 1, len(run))
            run = []
        run.append(head)
    if run:
        yield _run(run, 1, len(run))


def _follows(before: _Head, head: _Head, shared: int) -> bool:
    """Whether a head is the next one, begins one row later, and finds its keys one slot or one head further on."""
    next_row = head[3:] == (before.first + 1, *before[4:]) and head.head == before.head + 1
    return next_row and (shared == 1 or (head.kv, head.slot) == (before.kv, before.slot + 1))


def _combs(heads: list[_Head]) -> Iterator[Run]:
    """Heads that begin in the same row; those of one key/value head alone where strides cannot say which is whose."""
    for _, same in groupby(sorted(heads, key=lambda head: head.first), key=lambda head: head.first):
        comb = list(same)
        teeth = [list(tooth) for _, tooth in groupby(comb, key=lambda head: head.kv)]
        firsts = [(tooth[0].kv, tooth[0].slot) for tooth in teeth]
        steps = {(b[0] - a[0], b[1] - a[1]) for a, b in pairwise(firsts)}
        forward = all(slot >= 0 for _, slot in steps)  # a view cannot step back, to an earlier slot of a later head
        if len({len(tooth) for tooth in teeth}) == 1 and len(steps) <= 1 and forward:
            yield _run(comb, 0, len(teeth))
        else:
            yield from (_run(tooth, 0, 1) for tooth in teeth)


def _run(heads: list[_Head], skew: int, kv_heads: int) -> Run:
    """The run of these heads, which follow each other at equal distances."""
    first, each = heads[0], len(heads) // kv_heads
    second, other = (heads[i] if i < len(heads) else first for i in (1, each))
    step = max(1, second.head - first.head)
    kv_step, slot_step = other.kv - first.kv, other.slot - first.slot
    shape = (first.head, len(heads), step, skew, first.kv, kv_heads, kv_step, first.slot, slot_step)
    return Run(*shape, first.first, first.rows, first.cached)
