"""Pieces: which query rows meet which key rows, as strided views that copy nothing.

Legend: B batch rows, T queries a row, S keys a row, H query heads, G key/value heads, D head size.

An attention pattern is a list of pieces. A piece pairs a `View` of the query positions with a `View` of the key
positions; every query of the c-th sequence of the one sees the keys of the c-th sequence of the other, within a
band. Pieces may overlap in queries and in keys, not in pairs (a pair in two pieces would count twice).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass

import torch
from torch import Tensor

UNBOUNDED = 2**62  # a band limit that excludes nothing, as an integer so that it fits an operator's schema


@dataclass(frozen=True)
class View:
    """`count` sequences of `length` positions each, from the flattened axis of all B*T positions.

    Sequence c holds the positions `offset + c * stride + i * step` for i < length.
    """

    offset: int
    count: int
    stride: int
    length: int
    step: int = 1

    def of(self, x_BTHD: Tensor) -> Tensor:
        """The view (count, H, length, ...) of a contiguous tensor (B, T, H, ...)."""
        heads, *rest = x_BTHD.stride()[2:]
        token = x_BTHD.stride(1)
        size = (self.count, x_BTHD.shape[2], self.length, *x_BTHD.shape[3:])
        stride = (self.stride * token, heads, self.step * token, *rest)
        return x_BTHD.as_strided(size, stride, x_BTHD.storage_offset() + self.offset * token)


@dataclass(frozen=True)
class Piece:
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


def encode(pieces: Pieces) -> list[int]:
    """Pieces as a flat list of integers, which a custom operator can take."""
    return [n for p in pieces for n in (*astuple(p.query), *astuple(p.key), p.low, p.high)]


def decode(numbers: Sequence[int]) -> Pieces:
    """The inverse of `encode`."""
    rows = [numbers[i : i + 12] for i in range(0, len(numbers), 12)]
    return tuple(Piece(View(*row[:5]), View(*row[5:10]), row[10], row[11]) for row in rows)
