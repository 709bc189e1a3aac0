"""Presets `mamba` and `mamba1`: layers of Mamba-2, or of the first Mamba, without feed-forwards."""

from __future__ import annotations

from everlong.core.config import check, check_divides
from everlong.core.part import Part
from everlong.model.branch import Branch
from everlong.model.language_model import LanguageModel
from everlong.model.presets.decoder import BYTES, decoder
from everlong.model.presets.registry import family, within
from everlong.model.stack import Stack
from everlong.sequence.mamba import Mamba2
from everlong.sequence.mamba1 import Mamba1

COMMON = {
    "nano": {"layers": 6, "width": 96, "heads": 3, "state_size": 64},
    "tiny": {"layers": 6, "width": 256, "heads": 4},
    "small": {"layers": 18, "width": 512, "heads": 8},
    "base": {"layers": 32, "width": 768, "heads": 12},
}
"""The common sizes, in layers that have about half the parameters of a block with a feed-forward."""

PUBLISHED = {
    "130m": {"layers": 24, "width": 768, "heads": 12, "vocabulary": 50288},
    "780m": {"layers": 48, "width": 1536, "heads": 24, "vocabulary": 50288},
}
"""Of state-spaces/mamba2-130m and -780m, whose head is their embedding; here it is a matrix of its own."""


COMMON_1 = {
    "nano": {"layers": 6, "width": 96},
    "tiny": {"layers": 6, "width": 256},
    "small": {"layers": 18, "width": 512},
    "base": {"layers": 32, "width": 768},
}
PUBLISHED_1 = {
    "130m": {"layers": 24, "width": 768, "vocabulary": 50280},
    "790m": {"layers": 48, "width": 1536, "vocabulary": 50280},
}
"""Of state-spaces/mamba-130m and -790m, likewise."""


def mamba2(width: int, heads: int, state_size: int, expand: int = 2) -> Mamba2.Config:
    """A Mamba-2 layer of `expand * heads` heads, each as large as one of `heads` attention heads."""
    check_divides(heads, width, "heads", "width")
    return Mamba2.Config(width=width, heads=expand * heads, head_size=width // heads, state_size=state_size)


def layered(
    mixer: Part.Config,
    *,
    layers: int,
    hidden: int | None = None,
    vocabulary: int = BYTES,
    context_limit: int | None = None,
) -> LanguageModel.Config:
    """Equal layers of a mixer alone, or of a mixer and a feed-forward of size `hidden`."""
    check(layers >= 1, "layers", layers, "must be at least 1")
    if hidden is not None:
        return decoder(mixer, layers=layers, vocabulary=vocabulary, context_limit=context_limit, hidden=hidden)
    layer = Branch.Config(width=mixer.width, inner=mixer, eps=1e-5)
    body = Stack.Config(width=mixer.width, blocks=(layer,) * layers)
    return LanguageModel.Config(vocabulary=vocabulary, body=body, context_limit=context_limit)


@family(**COMMON, **PUBLISHED)
@within(layered)
def mamba(*, width: int, heads: int, state_size: int = 128, expand: int = 2) -> Mamba2.Config:
    """Mamba-2 in every layer: `expand * heads` heads of size `width / heads`. Without feed-forwards, as its authors use
    it, unless `hidden` gives the size of one."""
    return mamba2(width, heads, state_size, expand)


@family(**COMMON_1, **PUBLISHED_1)
@within(layered)
def mamba1(*, width: int, state_size: int = 16, expand: int = 2) -> Mamba1.Config:
    """The first Mamba in every layer, without feed-forwards unless `hidden` gives the size of one."""
    return Mamba1.Config(width=width, inner=expand * width, rank=-(-width // 16), state_size=state_size)
