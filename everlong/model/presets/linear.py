"""Preset `linear`: linear attention."""

from __future__ import annotations

from everlong.model.language_model import LanguageModel
from everlong.model.presets.decoder import BYTES, decoder
from everlong.model.presets.registry import family
from everlong.sequence.linear_attention import LinearAttention


@family()
def linear(
    *,
    layers: int,
    width: int,
    heads: int,
    hidden: int | None = None,
    vocabulary: int = BYTES,
    context_limit: int | None = None,
) -> LanguageModel.Config:
    """Linear attention (ELU + 1) in every layer."""
    mixer = LinearAttention.Config(width=width, heads=heads)
    return decoder(mixer, layers=layers, vocabulary=vocabulary, context_limit=context_limit, hidden=hidden)
