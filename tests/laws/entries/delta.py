"""Entries of the delta rule."""

from __future__ import annotations

import random
from typing import Any

from everlong import Config, Part
from everlong.sequence.delta import Decay, DeltaNet

GATED: dict[str, Any] = {"width": 8, "heads": 2, "value_heads": 2, "decay": Decay.Config()}

PARTS: dict[str, Config] = {
    "gated delta": DeltaNet.Config(**GATED, key_size=4, value_size=3),
    "gated delta, grouped": DeltaNet.Config(
        width=8, heads=2, value_heads=4, decay=Decay.Config(), key_size=3, value_size=2, taps=2
    ),
    "gated delta, negative eigenvalues": DeltaNet.Config(**GATED, key_size=3, value_size=5, beta_scale=2.0),
    "delta": DeltaNet.Config(width=8, heads=1, value_heads=1, decay=None, key_size=6, value_size=8, taps=1),
}

SHRUNK: dict[str, dict[str, Any]] = {"delta": {"key_size": 3}}


def delta(draw: random.Random, shape: dict[str, Any]) -> Part.Config:
    """As many heads of keys and values as the shape has of keys and queries, gated or not."""
    return DeltaNet.Config(
        width=shape["width"],
        heads=shape["kv_heads"],
        value_heads=shape["heads"],
        key_size=draw.randint(2, 5),
        value_size=draw.randint(2, 5),
        decay=draw.choice([None, Decay.Config()]),
        taps=draw.randint(1, 4),
    )


MIXERS = [delta]
