"""Attention sinks for dilated attention: the first positions of the document, seen by every query in every head.

Legend: as in `dilated_geometry.py`; Z sinks, t position in the document.

They are one more branch, whose keys are the positions s < Z: in the multiset C[j, t, s] of `dilated.py` they count once
more (s < Z, s <= t), beside the branches that keep them too. Not in LongNet's paper; Xiao et al. 2023 (arXiv
2309.17453) keep such positions in the cache of a trained model. Here they stand before all branches in the cache.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Int64
from torch import Tensor

from everlong.kernels.pieces import Piece, Pieces, View
from everlong.sequence.dilated_geometry import Geometry, Stretch
from everlong.sequence.dilated_look_back import LookBack


@dataclass(frozen=True)
class Sinks:
    """A geometry, and Z sinks before it."""

    inner: Geometry | LookBack
    count: int
    """Z."""

    def pieces(self, stretch: Stretch) -> Pieces:
        """Every pair of the sinks and of every branch, in a stretch that continues a document."""
        behind = replace(stretch, cache=stretch.cache + self.held(stretch.position))
        return (*self.own_pieces(stretch), *self.inner.pieces(behind))

    def own_pieces(self, stretch: Stretch) -> Iterator[Piece]:
        """All queries meet the cached sinks and, causally, the sinks among themselves."""
        held, T = self.held(stretch.position), stretch.length
        queries = View(stretch.query, stretch.count, stretch.query_row, T)
        keys = View(stretch.key, stretch.count, stretch.key_row, min(self.count - held, T))
        if held:
            yield Piece(queries, keys._replace(offset=stretch.cache, length=held))
        if keys.length:
            yield Piece(queries.rows(0, keys.length), keys, high=0)
        if 0 < keys.length < T:
            yield Piece(queries.rows(keys.length, T - keys.length), keys)

    def held(self, position: int) -> int:
        """Sinks in the cache after `position` positions."""
        return min(position, self.count)

    def pairs(self, T: int) -> int:
        """Query-key pairs of the first T positions of a document, over all heads, with multiplicity."""
        held = self.held(T)
        return self.inner.pairs(T) + self.inner.heads * (held * (held + 1) // 2 + (T - held) * held)

    def entries(self, position: int) -> int:
        """Entries of a key/value head in the cache after `position` positions."""
        return self.held(position) + self.inner.entries(position)

    def positions(self, position: int, device: torch.device) -> Int64[Tensor, "s g"]:
        """The position in the document of every entry of the cache; `position` or more at a hole."""
        return torch.cat([self._own(position, device), self.inner.positions(position, device)])

    def sources(self, before: int, after: int, origin: int, device: torch.device) -> Int64[Tensor, "s g"]:
        """See `Geometry.sources`."""
        shift, own = self.held(before), self._own(after, device)
        behind = self.inner.sources(before, after, origin - shift, device) + shift
        return torch.cat([torch.where(own < before, own, own + origin), behind])

    def _own(self, position: int, device: torch.device) -> Int64[Tensor, "s g"]:
        return torch.arange(self.held(position), device=device)[:, None].expand(-1, self.inner.kv_heads)
