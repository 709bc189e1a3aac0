"""Preset `mamba3`: layers of Mamba-3."""

from __future__ import annotations

from everlong.core.config import check_divides
from everlong.model.language_model import LanguageModel
from everlong.model.presets.decoder import BYTES
from everlong.model.presets.mamba import COMMON, layered
from everlong.model.presets.registry import family
from everlong.sequence.mamba3 import Mamba3


@family(**COMMON)
def mamba3(
    *,
    layers: int,
    width: int,
    heads: int,
    state_size: int = 128,
    expand: int = 2,
    turned: float = 0.5,
    hidden: int | None = None,
    vocabulary: int = BYTES,
    context_limit: int | None = None,
) -> LanguageModel.Config:
    """Mamba-3 in every layer, shaped as `mamba`: `expand * heads` heads of size `width / heads`, and no feed-forwards
    unless `hidden` gives the size of one. `turned` is how much of keys and queries is turned."""
    check_divides(heads, width, "heads", "width")
    mixer = Mamba3.Config(
        width=width, heads=expand * heads, head_size=width // heads, state_size=state_size, turned=turned
    )
    return layered(mixer, layers=layers, hidden=hidden, vocabulary=vocabulary, context_limit=context_limit)
