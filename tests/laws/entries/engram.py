"""Entries of n-gram memory."""

from __future__ import annotations

import random
from typing import Any

from everlong import Config, Part
from everlong.memory.engram import Engram
from everlong.memory.hashing import layer_hashes
from tests.laws.stream import VOCABULARY


def engram(orders: tuple[int, ...], heads: int) -> Engram.Config:
    """An n-gram memory so small that n-grams meet in its rows."""
    hash = layer_hashes([1], vocabulary=VOCABULARY, orders=orders, rows=5, heads=heads, pad=VOCABULARY - 1)[1]
    return Engram.Config(width=8, hash=hash, row_width=3)


PARTS: dict[str, Config] = {
    "engram": engram(orders=(2, 3), heads=2),
    "engram, of single tokens": engram(orders=(1,), heads=1),
    "engram, long": engram(orders=(1, 4, 7), heads=1),
}

SHRUNK: dict[str, dict[str, Any]] = {
    "engram": {"window": 5, "memory_layers": (0,), "orders": (2, 4), "rows": 7, "row_width": 3}
}


def memory(draw: random.Random, shape: dict[str, Any]) -> Part.Config:
    """Single tokens, and n-grams of any order."""
    return engram(orders=(1, 1 + draw.randint(1, 6)), heads=shape["heads"])


MIXERS = [memory]
