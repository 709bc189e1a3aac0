"""Entries of Granite's constant factors."""

from __future__ import annotations

import random
from typing import Any

from everlong import Config, Part
from everlong.model.scaled import Scaled
from everlong.sequence.scaled_attention import ScaledAttention
from tests.laws.entries.shared import SHARED, block, stack

PARTS: dict[str, Config] = {
    "scaled": Scaled.Config(
        width=16,
        inner=stack(block(ScaledAttention.Config(**SHARED, scale=0.8))),
        input_factor=1.7,
        output_factor=0.6,
    ),
}


def scaled(draw: random.Random, shape: dict[str, Any]) -> Part.Config:
    """Any factors, around attention with any of its own."""
    inner = ScaledAttention.Config(**shape, scale=draw.uniform(0.3, 1.2))
    factors = {"input_factor": draw.uniform(0.5, 2), "output_factor": draw.uniform(0.5, 2)}
    return block(Scaled.Config(width=shape["width"], inner=inner, **factors))


MIXERS = [scaled]
