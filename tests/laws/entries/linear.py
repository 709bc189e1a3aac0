"""Entries of linear attention."""

from __future__ import annotations

from everlong import Config
from everlong.sequence.linear_attention import LinearAttention

PARTS: dict[str, Config] = {
    "linear attention": LinearAttention.Config(width=8, heads=2),
}

MIXERS = [lambda _draw, shape: LinearAttention.Config(width=shape["width"], heads=shape["heads"])]
