"""Entries of Infini-attention, and of recurrent memory."""

from __future__ import annotations

import random
from typing import Any

from everlong import Config, Part
from everlong.memory.recurrent_memory import RecurrentMemory
from everlong.sequence.attention import Attention, WindowAttention
from everlong.sequence.infini import InfiniAttention
from everlong.sequence.infini_memory import Delta, GatedDelta, Linear, StableDelta
from tests.laws.entries.shared import FULL, SHARED, SINGLE, block, stack

UPDATES = (Linear.Config(), Delta.Config(), StableDelta.Config(), GatedDelta.Config())

PARTS: dict[str, Config] = {
    "infini": InfiniAttention.Config(**FULL, segment=4),
    "infini, linear": InfiniAttention.Config(**SHARED, segment=3, update=Linear.Config()),
    "infini, the paper's delta": InfiniAttention.Config(**SHARED, segment=4, update=Delta.Config()),
    "infini, gated delta, one kv head, xPos": InfiniAttention.Config(**SINGLE, segment=2, update=GatedDelta.Config()),
    "infini, segments of 1": InfiniAttention.Config(**SHARED, segment=1),
    "infini, gated delta": InfiniAttention.Config(**SHARED, segment=5, update=GatedDelta.Config()),
    "recurrent memory": RecurrentMemory.Config(
        width=8, inner=stack(block(Attention.Config(**FULL))), segment=4, memories=2
    ),
    "recurrent memory, of a window": RecurrentMemory.Config(
        width=16, inner=WindowAttention.Config(**SHARED, window=3), segment=5, memories=1
    ),
}

SHRUNK: dict[str, dict[str, Any]] = {
    "infini": {"segment": 4},
    "transformer-xl": {"segment": 4},
    "rmt": {"segment": 4, "memories": 2},
}


def infini(draw: random.Random, shape: dict[str, Any]) -> Part.Config:
    """Any rule, segments of any length."""
    return InfiniAttention.Config(**shape, segment=draw.randint(1, 6), update=draw.choice(UPDATES))


MIXERS = [infini]
