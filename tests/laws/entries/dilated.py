"""Entries of dilated attention."""

from __future__ import annotations

import random
from typing import Any

from everlong import Config, Part
from everlong.sequence.dilated import DilatedAttention
from tests.laws.entries.shared import FULL, SHARED, SINGLE

PARTS: dict[str, Config] = {
    "dilated": DilatedAttention.Config(**FULL, segment_lengths=(4, 6, 9), dilations=(1, 2, 4)),
    "dilated, ragged segments": DilatedAttention.Config(**SHARED, segment_lengths=(3, 5, 7), dilations=(1, 2, 3)),
    "dilated, one kv head, xPos": DilatedAttention.Config(**SINGLE, segment_lengths=(2, 7), dilations=(1, 3)),
    "dilated, rotated": DilatedAttention.Config(**SHARED, segment_lengths=(3, 6), dilations=(1, 4), rotation=3),
    "dilated, sinks": DilatedAttention.Config(**SHARED, segment_lengths=(3, 5), dilations=(1, 2), sinks=2),
    "dilated, sinks, one kv head, xPos": DilatedAttention.Config(
        **SINGLE, segment_lengths=(2, 7), dilations=(1, 3), sinks=5
    ),
    "dilated, look-back": DilatedAttention.Config(
        **FULL, segment_lengths=(2, 3, 7), dilations=(1, 2, 5), look_back=True
    ),
    "dilated, look-back, sinks": DilatedAttention.Config(
        **SHARED, segment_lengths=(1, 4, 5), dilations=(1, 2, 3), look_back=True, sinks=3
    ),
    "dilated, look-back, one kv head, xPos": DilatedAttention.Config(
        **SINGLE, segment_lengths=(2, 5), dilations=(1, 3), look_back=True, rotation=1
    ),
    "dilated, dense": DilatedAttention.Config(**SHARED, segment_lengths=(100,), dilations=(1,)),
}

SHRUNK: dict[str, dict[str, Any]] = {"longnet": {"segment_lengths": (4, 6, 9), "dilations": (1, 2, 4)}}


def dilated(draw: random.Random, shape: dict[str, Any]) -> Part.Config:
    """Two branches of any length."""
    length = draw.randint(1, 6)
    return DilatedAttention.Config(**shape, segment_lengths=(length, length + 3), dilations=(1, 1 + length))


MIXERS = [dilated]
