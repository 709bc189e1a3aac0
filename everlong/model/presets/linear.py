"""Preset `linear`: linear attention."""

from __future__ import annotations

from everlong.model.presets.decoder import decoder
from everlong.model.presets.registry import family, within
from everlong.sequence.linear_attention import LinearAttention


@family()
@within(decoder)
def linear(*, width: int, heads: int) -> LinearAttention.Config:
    """Linear attention (ELU + 1) in every layer."""
    return LinearAttention.Config(width=width, heads=heads)
