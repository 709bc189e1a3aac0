"""Pieces: which query rows meet which key rows, as strided views that copy nothing.

Legend: B batch rows, T queries a row, S keys a row, H query heads, G key/value heads, D head size.

An attention pattern is a list of pieces. A piece pairs a `View` of the query positions with a `View` of the key
positions; every query of the c-th sequence of the one sees the keys of the c-th sequence of the other, within a
band. Pieces may overlap in queries, in keys and in pairs: the softmax runs over the multiset union of the keys, so a
pair in two pieces counts twice.
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
    """`count` sequences of `length` positions each, from the flattened axis of all B*T positions, in some heads.

    Sequence c of the j-th head of the view holds the positions `offset + c * stride + j * skew + i * step` for
    i < length, of head `head + j * head_step`. No position of a head may be in a view twice: gradients are added into
    them side by side.
    """

    offset: int
    count: int
    stride: int
    length: int
    step: int = 1
    head: int = 0
    heads: int = 0
    """How many heads; 0: all."""
    head_step: int = 1
    skew: int = 0

    def of(self, x_BTHD: Tensor) -> Tensor:
        """The view (count, heads, length, ...) of a contiguous tensor (B, T, H, ...)."""
        head = math.prod(x_BTHD.shape[3:])
        token = x_BTHD.shape[2] * head  # not stride(1), which may be anything when T is 1
        size = (self.count, self.heads or x_BTHD.shape[2], self.length, *x_BTHD.shape[3:])
        stride = (self.stride * token, self.head_step * head + self.skew * token, self.step * token)
        start = x_BTHD.storage_offset() + self.offset * token + self.head * head
        return x_BTHD.as_strided(size, (*stride, *x_BTHD.stride()[3:]), start)

    @property
    def places(self) -> View:
        """The same positions of a tensor (B, T, 1) that knows no heads; one head where all heads hold the same."""
        return self._replace(head=0, heads=self.heads if self.skew else 1, head_step=0)

    def shifted(self, places: int) -> View:
        """The same view, so many places further on."""
        return self._replace(offset=self.offset + places)

    def rows(self, first: int, length: int) -> View:
        """Some of the rows of every sequence."""
        return self._replace(offset=self.offset + first * self.step, length=length)


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


def everything(B: int, S: int) -> Pieces:
    """One query a row, which sees all S keys."""
    return (Piece(View(0, B, 1, 1), View(0, B, S, S)),)


def halve_squares(pieces: Pieces, smallest: int) -> Pieces:
    """The same pairs, with every causal square cut into two squares of half the length and the full rectangle
    below them, as long as the halves are no shorter than `smallest`. A kernel that works through whole tiles then
    skips the masked half of the work."""
    cut: list[Piece] = []
    for piece in pieces:
        length = piece.query.length
        if not piece.causal_square or length // 2 < smallest:
            cut.append(piece)
            continue
        cut += halve_squares(_two_squares(piece), smallest)
        below = piece.query.rows(length - length // 2, length // 2)
        cut.append(Piece(below, piece.key.rows(0, length - length // 2)))
    return tuple(cut)


def _two_squares(piece: Piece) -> Pieces:
    """The upper and the lower half of a causal square; one piece where equal steps lead from half to half."""
    lower = piece.query.length // 2
    upper = piece.query.length - lower
    views = (piece.query, piece.key)
    if upper == lower and all(view.count == 1 or view.stride == view.length * view.step for view in views):
        halves = [v._replace(count=2 * v.count, stride=lower * v.step, length=lower) for v in views]
        return (Piece(halves[0], halves[1], high=0),)
    return tuple(
        Piece(piece.query.rows(first, size), piece.key.rows(first, size), high=0)
        for first, size in ((0, upper), (upper, lower))
    )


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

    def of(self, piece: Piece) -> Bool[Tensor, "n h l m"]:
        """Visible pairs of a piece."""

        def queries(x_BT: Tensor) -> Tensor:
            return piece.query.places.of(x_BT[..., None])[..., None]

        def keys(x_BS: Tensor) -> Tensor:
            return piece.key.places.of(x_BS[..., None])[..., None, :]

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
    view = len(View._fields)
    rows = [numbers[i : i + 2 * view + 2] for i in range(0, len(numbers), 2 * view + 2)]
    return tuple(Piece(View(*row[:view]), View(*row[view : 2 * view]), *row[2 * view :]) for row in rows)


def visible_pairs(piece: Piece, visibility: Visibility | None, device: torch.device) -> Tensor | None:
    """Which pairs of a piece are visible: (L, M), or (N, H or 1, L, M) by data, or `None` for all."""
    if visibility is not None:
        return visibility.of(piece)
    return piece.band(device) if piece.banded else None


def accumulator(q: Tensor) -> torch.dtype:
    """The dtype in which pieces are merged and log-sum-exps are kept."""
    return torch.promote_types(q.dtype, torch.float32)
