"""Random problems of dilated attention: every relation between segment length, dilation, length and heads.

Legend: B batch rows, N positions, H query heads, G key/value heads, D head size.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Problem:
    """Inputs of `dilated_attention`."""

    q_BNHD: Tensor
    k_BNGD: Tensor
    v_BNGD: Tensor
    segment_lengths: tuple[int, ...]
    dilations: tuple[int, ...]
    causal: bool

    @property
    def branches(self) -> list[tuple[int, int]]:
        return list(zip(self.segment_lengths, self.dilations, strict=True))

    def leaves(self, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, fresh, with gradients."""
        q, k, v = (x.to(dtype).requires_grad_() for x in (self.q_BNHD, self.k_BNGD, self.v_BNGD))
        return q, k, v


def problem(seed: int) -> Problem:
    """A random problem. Some have no dilation 1, so that rows see nothing; many do not divide."""
    draw, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    B, N, G, D = draw.randint(1, 3), draw.randint(1, 60), draw.choice([1, 1, 2, 3, 5]), draw.choice([1, 4, 8])
    H = G * draw.choice([1, 1, 2, 3, 4, 6])
    count = draw.randint(1, 4)
    dilations = sorted(draw.sample(range(1, 9), count))
    if draw.random() < 0.7:
        dilations[0] = 1
    lengths, least = [], 1
    for rate in dilations:
        lengths.append(draw.randint(max(rate, least), max(rate, least) + 25))
        least = lengths[-1] + 1
    shapes = ((B, N, H, D), (B, N, G, D), (B, N, G, D))
    q, k, v = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes)
    return Problem(q, k, v, tuple(lengths), tuple(dilations), draw.random() < 0.6)
