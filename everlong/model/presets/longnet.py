"""Preset `longnet`: dilated attention."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from everlong.model.language_model import LanguageModel
from everlong.model.presets.decoder import BYTES, ROPE, decoder
from everlong.model.presets.registry import family
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


@family(paper=PAPER)
def longnet(
    *,
    layers: int,
    width: int,
    heads: int,
    kv_heads: int | None = None,
    position: Position | None = ROPE,
    segment_lengths: Sequence[int] = LENGTHS,
    dilations: Sequence[int] = DILATIONS,
    rotation: int = 0,
    look_back: bool = False,
    sinks: int = 0,
    hidden: int | None = None,
    vocabulary: int = BYTES,
    context_limit: int | None = None,
) -> LanguageModel.Config:
    """Dilated attention in every layer; offsets move on by `rotation` from layer to layer. Queries may see the segment
    before their own besides, and the first positions of the document."""
    kv = heads if kv_heads is None else kv_heads
    mixer = DilatedAttention.Config(
        width=width,
        heads=heads,
        kv_heads=kv,
        position=position,
        segment_lengths=tuple(segment_lengths),
        dilations=tuple(dilations),
        look_back=look_back,
        sinks=sinks,
    )
    config = decoder(mixer, layers=layers, vocabulary=vocabulary, context_limit=context_limit, hidden=hidden)
    stack = cast(Stack.Config, config.body)
    rotated = tuple(
        cast(Block.Config, block).replace(mixer=mixer.replace(rotation=i * rotation))
        for i, block in enumerate(stack.blocks)
    )
    return config.replace(body=stack.replace(blocks=rotated))
