"""Pieces: which query rows meet which key rows, as strided views that copy nothing.

Legend: B batch rows, T queries a row, S keys a row, H query heads, G key/value heads, D head size.

An attention pattern is a list of pieces. A piece pairs a `View` of the query positions with a `View` of the key
positions; every query of the c-th sequence of the one sees the keys of the c-th sequence of the other, within a
band. Pieces may overlap in queries and in keys, not in pairs (a pair in two pieces would count twice).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

UNBOUNDED = 2**62  # a band limit that excludes nothing, as an integer so that it fits an operator's schema


class View(NamedTuple):
    """`count` sequences of `length` positions each, from the flattened axis of all B*T positions.

    Sequence c holds the positions `offset + c * stride + i * step` for i < length. The sequences of a view must not
    overlap: gradients are added into them side by side.
    """

    offset: int
    count: int
    stride: int
    length: int
    step: int = 1

    def of(self, x_BTHD: Tensor) -> Tensor:
        """The view (count, H, length, ...) of a contiguous tensor (B, T, H, ...)."""
        heads, *rest = x_BTHD.stride()[2:]
        token = math.prod(x_BTHD.shape[2:])  # not stride(1), which may be anything when T is 1
        size = (self.count, x_BTHD.shape[2], self.length, *x_BTHD.shape[3:])
        stride = (self.stride * token, heads, self.step * token, *rest)
        return x_BTHD.as_strided(size, stride, x_BTHD.storage_offset() + self.offset * token)


class Piece(NamedTuple):
    """Query i of a sequence sees key j of the same sequence when `low <= j - i <= high`."""

    query: View
    key: View
    low: int = -UNBOUNDED
    high: int = UNBOUNDED

    @property
    def causal_square(self) -> bool:
        """Plain causal attention of a sequence to itself."""
        return self.high == 0 and self.low <= -self.key.length and self.query.length == self.key.length

    @property
    def banded(self) -> bool:
        """Whether the band hides any pair."""
        return self.high < self.key.length - 1 or self.low > 1 - self.query.length

    def band(self, device: torch.device) -> Tensor:
        """Visible pairs, (query length, key length), boolean."""
        i = torch.arange(self.query.length, device=device)[:, None]
        j = torch.arange(self.key.length, device=device)[None, :]
        return (j - i >= self.low) & (j - i <= self.high)


Pieces = tuple[Piece, ...]


def halve_squares(pieces: Pieces, smallest: int) -> Pieces:
    """The same pairs, with every causal square cut into two squares of half the length and the full rectangle
    below them, as long as the halves are no shorter than `smallest`. A kernel that works through whole tiles then
    skips the masked half of the work. Only rows that follow each other without a gap are cut."""
    cut: list[Piece] = []
    for piece in pieces:
        query, key, half = piece.query, piece.key, piece.query.length // 2
        gapless = query.step == key.step == 1 and query.stride == key.stride == query.length == 2 * half
        if not (piece.causal_square and gapless and half >= smallest):
            cut.append(piece)
            continue
        squares = [View(view.offset, 2 * view.count, half, half) for view in (query, key)]
        below = View(query.offset + half, query.count, query.stride, half)
        cut += halve_squares((Piece(squares[0], squares[1], high=0),), smallest)
        cut.append(Piece(below, View(key.offset, key.count, key.stride, half)))
    return tuple(cut)


@dataclass(frozen=True, eq=False)
class Visibility:
    """Visibility that depends on the data (documents, ragged rows), as intervals of an order given to the keys.

    A query sees the keys with `low <= order <= high`, and marked keys already from `low_marked` on. It replaces the
    bands of the pieces, which then only bound the work.
    """

    low_BT: Int64[Tensor, "b t"]
    high_BT: Int64[Tensor, "b t"]
    order_BS: Int64[Tensor, "b s"]
    low_marked_BT: Int64[Tensor, "b t"] | None = None
    marked_BS: Bool[Tensor, "b s"] | None = None

    def tensors(self) -> list[Tensor]:
        """Its tensors, in the order of the fields: `Visibility(*v.tensors())` equals v."""
        return [
            x for x in (self.low_BT, self.high_BT, self.order_BS, self.low_marked_BT, self.marked_BS) if x is not None
        ]

    def of(self, piece: Piece) -> Bool[Tensor, "n 1 l m"]:
        """Visible pairs of a piece."""

        def queries(x_BT: Tensor) -> Tensor:
            return piece.query.of(x_BT[..., None])[..., None]

        def keys(x_BS: Tensor) -> Tensor:
            return piece.key.of(x_BS[..., None])[..., None, :]

        order = keys(self.order_BS)
        visible = order >= queries(self.low_BT)
        if self.marked_BS is not None and self.low_marked_BT is not None:
            visible = visible | (keys(self.marked_BS) & (order >= queries(self.low_marked_BT)))
        return visible & (order <= queries(self.high_BT))


def encode(pieces: Pieces) -> list[int]:
    """Pieces as a flat list of integers, which a custom operator can take."""
    return [n for piece in pieces for n in (*piece.query, *piece.key, piece.low, piece.high)]


def decode(numbers: Sequence[int]) -> Pieces:
    """The inverse of `encode`."""
    rows = [numbers[i : i + 12] for i in range(0, len(numbers), 12)]
    return tuple(Piece(View(*row[:5]), View(*row[5:10]), row[10], row[11]) for row in rows)


def visible_pairs(piece: Piece, visibility: Visibility | None, device: torch.device) -> Tensor | None:
    """Which pairs of a piece are visible: (L, M), or (N, 1, L, M) by data, or `None` for all."""
    if visibility is not None:
        return visibility.of(piece)
    return piece.band(device) if piece.banded else None


def accumulator(q: Tensor) -> torch.dtype:
    """The dtype in which pieces are merged and log-sum-exps are kept."""
    return torch.promote_types(q.dtype, torch.float32)
