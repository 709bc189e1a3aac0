"""Preset `mamba3`: layers of Mamba-3."""

from __future__ import annotations

from everlong.core.config import check_divides
from everlong.model.presets.mamba import COMMON, layered
from everlong.model.presets.registry import family, within
from everlong.sequence.mamba3 import Mamba3


@family(**COMMON)
@within(layered)
def mamba3(*, width: int, heads: int, state_size: int = 128, expand: int = 2, turned: float = 0.5) -> Mamba3.Config:
    """Mamba-3 in every layer, shaped as `mamba`: `expand * heads` heads of size `width / heads`, and no feed-forwards
    unless `hidden` gives the size of one. `turned` is how much of keys and queries is turned."""
    check_divides(heads, width, "heads", "width")
    shape = {"width": width, "heads": expand * heads, "head_size": width // heads, "state_size": state_size}
    return Mamba3.Config(**shape, turned=turned)
