"""Random attention patterns: pieces of every shape, in all heads or in some, that may hold a pair several times.

Legend: B batch rows, T queries a row, S keys a row, H query heads, G key/value heads, D head size.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from everlong.kernels.pieces import UNBOUNDED, Piece, Pieces, View, Visibility
from tests.oracles.pieces import counts


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
    def count_HQK(self) -> Tensor:
        """How often all queries see all keys, head by head."""
        (B, T, H), (S, G) = self.q_BTHD.shape[:3], self.k_BSGD.shape[1:3]
        return counts(self.pieces, B, T, S, H, G, self.visibility)


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
    pieces = random_pieces(draw, B, T, S, H, G)
    return Problem(normal(B, T, H, D), normal(B, S, G, D), normal(B, S, G, D), pieces, visibility)


def random_pieces(draw: random.Random, B: int, T: int, S: int, H: int = 1, G: int = 1) -> Pieces:
    """Up to four pieces."""
    return tuple(_piece(draw, B, T, S, H, G) for _ in range(draw.randint(1, 4)))


def _piece(draw: random.Random, B: int, T: int, S: int, H: int, G: int) -> Piece:
    count = min(draw.randint(1, 3), B * T, B * S)
    query, key = _view(draw, count, B * T), _view(draw, count, B * S)
    if draw.random() < 0.3 and query.length <= key.length:
        key = key._replace(length=query.length)  # so that causal squares occur
    if draw.random() < 0.6:
        query, key = _some_heads(draw, query, key, B * T, B * S, H, G)
    return Piece(query, key, *_band(draw))


def _some_heads(
    draw: random.Random, query: View, key: View, queries: int, keys: int, H: int, G: int
) -> tuple[View, View]:
    """The views in one head, or in several heads that follow each other; there every head begins one position later
    where there is room for it between the steps."""
    groups = H // G
    head = draw.randrange(H)
    room = min(
        (v.step if v.length > 1 else v.stride if v.count > 1 else total) for v, total in ((query, queries), (key, keys))
    )
    ends = [
        total - 1 - v.offset - (v.count - 1) * v.stride - (v.length - 1) * v.step
        for v, total in ((query, queries), (key, keys))
    ]
    crowded = any(v.count > 1 and v.stride < v.step for v in (query, key))  # sequences interleave already
    last_head = H if groups == 1 else (head // groups + 1) * groups
    heads = 1 if crowded else draw.randint(1, max(1, min(last_head - head, room, min(ends) + 1)))
    query = query._replace(head=head, heads=heads, skew=1)
    return query, key._replace(head=head // groups, heads=heads, head_step=int(groups == 1), skew=1)


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
