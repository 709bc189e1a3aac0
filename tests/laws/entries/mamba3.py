"""Entries of Mamba-3."""

from __future__ import annotations

import random
from typing import Any

from everlong import Config, Part
from everlong.sequence.mamba3 import Mamba3
from tests.laws.entries.shared import block

PARTS: dict[str, Config] = {
    "mamba-3": Mamba3.Config(width=8, heads=4, head_size=3, state_size=5, groups=2, turned=0.8),
}

SHRUNK: dict[str, dict[str, Any]] = {"mamba3": {"state_size": 6}}


def mamba3(draw: random.Random, shape: dict[str, Any]) -> Part.Config:
    """As many heads and groups as the shape has, turned in half or in whole; in a block, since the phases of inputs in
    the thousands are known to few digits."""
    numbers = {"head_size": draw.randint(1, 4), "state_size": draw.randint(4, 6), "turned": draw.choice([0.5, 1.0])}
    return block(Mamba3.Config(width=shape["width"], heads=shape["heads"], groups=shape["kv_heads"], **numbers))


MIXERS = [mamba3]
