"""Preset `longnet`: dilated attention."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from everlong.model.language_model import LanguageModel
from everlong.model.presets.decoder import ROPE, decoder
from everlong.model.presets.registry import extending, family, within
from everlong.model.stack import Block, Stack
from everlong.sequence.dilated import DilatedAttention
from everlong.sequence.dilation import geometric_schedule
from everlong.sequence.position import Position, XPos

LENGTHS, DILATIONS = geometric_schedule(512, 4, 8192, dilation_ratio=2)
"""The default branches of `longnet`, for contexts of a few thousand tokens and models of few heads."""

PAPER = {
    "layers": 12,
    "width": 768,
    "heads": 12,
    "hidden": 3072,
    "position": XPos.Config(),
    "segment_lengths": (2048, 4096, 8192, 16384, 32768),
    "dilations": (1, 2, 4, 6, 12),
}
"""The size of the paper's experiments (section 4.1)."""


def dilated(
    *,
    width: int,
    heads: int,
    kv_heads: int | None = None,
    position: Position | None = ROPE,
    segment_lengths: Sequence[int] = LENGTHS,
    dilations: Sequence[int] = DILATIONS,
    look_back: bool = False,
    sinks: int = 0,
) -> DilatedAttention.Config:
    """One layer's attention."""
    shape = {"width": width, "heads": heads, "kv_heads": kv_heads, "position": position}
    branches = {"segment_lengths": tuple(segment_lengths), "dilations": tuple(dilations)}
    return DilatedAttention.Config(**{**shape, **branches}, look_back=look_back, sinks=sinks)


@family(paper=PAPER)
@extending(within(decoder)(dilated))
def longnet(plain: LanguageModel.Config, *, rotation: int = 0) -> LanguageModel.Config:
    """Dilated attention in every layer; offsets move on by `rotation` from layer to layer. Queries may see the segment
    before their own besides, and the first positions of the document."""
    stack = cast(Stack.Config, plain.body)
    rotated = []
    for i, block in enumerate(cast(Sequence[Block.Config], stack.blocks)):
        mixer = cast(DilatedAttention.Config, block.mixer)
        rotated.append(block.replace(mixer=mixer.replace(rotation=i * rotation)))
    return plain.replace(body=stack.replace(blocks=tuple(rotated)))
