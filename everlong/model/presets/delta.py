"""Preset `delta`: Gated DeltaNet."""

from __future__ import annotations

from everlong.core.config import check_divides
from everlong.model.presets.decoder import decoder
from everlong.model.presets.registry import family, within
from everlong.sequence.delta import Decay, DeltaNet

FADES = Decay.Config()
"""The default: a memory that fades."""

COMMON = {
    "tiny": {"layers": 3, "width": 256, "heads": 4},
    "small": {"layers": 9, "width": 512, "heads": 8},
    "base": {"layers": 16, "width": 768, "heads": 12},
}
"""The common sizes, with fewer layers than those of attention: a layer has half again as many parameters."""


@family(**COMMON)
@within(decoder)
def delta(
    *,
    width: int,
    heads: int,
    key_size: int | None = None,
    decay: Decay.Config | None = FADES,
    beta_scale: float = 1.0,
) -> DeltaNet.Config:
    """The gated delta rule in every layer, with values twice as large as keys. Without a decay it is DeltaNet.

    `key_size` is 3/4 of an attention head's unless given, so that a layer has 6 times the width squared of parameters.
    """
    check_divides(heads, width, "heads", "width")
    key_size = 3 * width // (4 * heads) if key_size is None else key_size
    return DeltaNet.Config(
        width=width,
        heads=heads,
        value_heads=heads,
        key_size=key_size,
        value_size=2 * key_size,
        decay=decay,
        beta_scale=beta_scale,
    )
