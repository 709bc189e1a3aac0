"""Entries of the Mamba family, and of what joins it with attention."""

from __future__ import annotations

import random
from typing import Any

from everlong import Config, Part
from everlong.model.branch import Branch
from everlong.model.parallel import Parallel
from everlong.sequence.attention import WindowAttention
from everlong.sequence.mamba import Mamba2
from everlong.sequence.mamba1 import Mamba1
from tests.laws.entries.shared import SHARED, block, stack

SMALL: dict[str, Any] = {"width": 8, "heads": 2, "head_size": 4, "state_size": 3}


def branch(inner: Part.Config) -> Branch.Config:
    """A layer without a feed-forward."""
    return Branch.Config(width=inner.width, inner=inner)


PARTS: dict[str, Config] = {
    "mamba-2": Mamba2.Config(**SMALL),
    "mamba-2, groups": Mamba2.Config(width=8, heads=4, head_size=3, state_size=5, groups=2, taps=3),
    "mamba-2, a group a head, one tap": Mamba2.Config(width=8, heads=2, head_size=6, state_size=2, groups=2, taps=1),
    "mamba-2, limits": Mamba2.Config(**SMALL, dt_limits=(0.9, 1.6)),
    "mamba-2, many taps": Mamba2.Config(**SMALL, taps=7),
    "mamba-1": Mamba1.Config(width=8, inner=6, rank=2, state_size=3),
    "branch": Branch.Config(width=8, inner=Mamba2.Config(**SMALL), eps=0.1),
    "block and stack, other eps": stack(block(Mamba2.Config(**SMALL)).replace(eps=0.2)).replace(eps=0.1),
    "parallel": Parallel.Config(
        width=16,
        parts=(Mamba2.Config(width=16, heads=2, head_size=3, state_size=4), WindowAttention.Config(**SHARED, window=3)),
    ),
    "hybrid": stack(
        branch(Mamba2.Config(width=16, heads=2, head_size=3, state_size=4)),
        block(WindowAttention.Config(**SHARED, window=3)),
    ),
}

SHRUNK: dict[str, dict[str, Any]] = {
    "mamba": {"state_size": 5},
    "mamba1": {"state_size": 3},
    "hybrid": {"state_size": 5, "pattern": "mT"},
    "hybrid7": {"state_size": 5, "pattern": "Mt"},
    "parallel-hybrid": {"state_size": 5},
}


def mamba2(draw: random.Random, shape: dict[str, Any]) -> Part.Config:
    """As many heads and groups as the shape has."""
    heads, groups = shape["heads"], shape["kv_heads"]
    taps, size = draw.randint(1, 5), draw.randint(1, 5)
    return Mamba2.Config(
        width=shape["width"], heads=heads, head_size=size, state_size=size + 1, groups=groups, taps=taps
    )


def mamba1(draw: random.Random, shape: dict[str, Any]) -> Part.Config:
    """Any inner width."""
    inner, rank = draw.randint(1, 9), draw.randint(1, 3)
    return Mamba1.Config(width=shape["width"], inner=inner, rank=rank, state_size=draw.randint(1, 4))


MIXERS = [mamba2, mamba1]
