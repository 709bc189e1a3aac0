"""Random attention patterns: pieces of every shape, whose pairs are disjoint.

Legend: B batch rows, T queries a row, S keys a row, H query heads, G key/value heads, D head size.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from everlong.kernels.pieces import UNBOUNDED, Piece, Pieces, View, Visibility
from tests.oracles.pieces import pairs


@dataclass(frozen=True, eq=False)
class Problem:
    """Inputs of `attention`."""

    q_BTHD: Tensor
    k_BSGD: Tensor
    v_BSGD: Tensor
    pieces: Pieces
    visibility: Visibility | None = None

    def leaves(self) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, fresh, with gradients."""
        q, k, v = (x.clone().requires_grad_() for x in (self.q_BTHD, self.k_BSGD, self.v_BSGD))
        return q, k, v

    def double(self) -> Problem:
        """The same numbers in float64."""
        q, k, v = (x.double() for x in (self.q_BTHD, self.k_BSGD, self.v_BSGD))
        return replace(self, q_BTHD=q, k_BSGD=k, v_BSGD=v)

    @property
    def seen_QK(self) -> Tensor:
        """Which of all queries see which of all keys."""
        (B, T), S = self.q_BTHD.shape[:2], self.k_BSGD.shape[1]
        return pairs(self.pieces, B, T, S, self.visibility) > 0


def problem(seed: int, *, by_data: bool = False, dtype: torch.dtype = torch.float64) -> Problem:
    """A random problem; `by_data`: visibility is given by the data, not by the bands."""
    draw, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    B, T, S, G, D = (
        draw.randint(1, 3),
        draw.randint(1, 13),
        draw.randint(1, 13),
        draw.randint(1, 3),
        2 ** draw.randint(0, 3),
    )
    H = G * draw.randint(1, 3)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)

    visibility = random_visibility(draw, B, T, S) if by_data else None
    return Problem(
        normal(B, T, H, D), normal(B, S, G, D), normal(B, S, G, D), random_pieces(draw, B, T, S, by_data), visibility
    )


def random_pieces(draw: random.Random, B: int, T: int, S: int, by_data: bool = False) -> Pieces:
    """Up to five pieces of which no two hold the same pair. With `by_data`, bands do not count."""
    chosen: Pieces = ()
    for _ in range(draw.randint(1, 5)):
        count = min(draw.randint(1, 3), B * T, B * S)
        query, key = _view(draw, count, B * T), _view(draw, count, B * S)
        if draw.random() < 0.3 and query.length <= key.length:
            key = key._replace(length=query.length)  # so that causal squares occur
        low, high = _band(draw)
        candidate = (*chosen, Piece(query, key, low, high) if not by_data else Piece(query, key))
        if pairs(candidate, B, T, S).max() <= 1:
            chosen = candidate
    return chosen


def random_visibility(draw: random.Random, B: int, T: int, S: int) -> Visibility:
    """Intervals of a random order, some of them empty, and marked keys."""

    def numbers(columns: int, low: int, high: int) -> Tensor:
        return torch.tensor([[draw.randint(low, high) for _ in range(columns)] for _ in range(B)])

    low_BT, order_BS = numbers(T, -2, S), numbers(S, 0, S)
    high_BT = low_BT + numbers(T, -2, S)
    if draw.random() < 0.5:
        return Visibility(low_BT, high_BT, order_BS)
    return Visibility(low_BT, high_BT, order_BS, low_BT - numbers(T, 0, S), numbers(S, 0, 1).bool())


def _view(draw: random.Random, count: int, total: int) -> View:
    """`count` sequences without a common position, one behind the other or interleaved, in an axis of `total`."""
    step, length = draw.randint(1, 3), draw.randint(1, 6)
    stride = 1 if step >= count and draw.random() < 0.5 else step * length
    if (count - 1) * stride + (length - 1) * step >= total:  # no room: shorter, and without gaps
        step, stride = 1, total // count
        length = min(length, stride)
    last = (count - 1) * stride + (length - 1) * step
    return View(draw.randint(0, total - 1 - last), count, stride, length, step)


def _band(draw: random.Random) -> tuple[int, int]:
    low = draw.choice([-UNBOUNDED, draw.randint(-4, 1)])
    return draw.choice([(low, 0), (low, UNBOUNDED), (low, draw.randint(-2, 4)), (-UNBOUNDED, 0)])
