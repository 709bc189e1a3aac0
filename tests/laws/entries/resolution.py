"""Entries of hierarchies: all chunkers, patches, and MEGABYTE."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from everlong import Config, LanguageModel, Part, Span
from everlong.model.entropy import EntropyRise, EntropyThreshold
from everlong.resolution.capped import Capped
from everlong.resolution.chunkers import Chunker, FixedPatches, Opening, SpaceLike
from everlong.resolution.convolutions import Convolutions
from everlong.resolution.hierarchy import Hierarchy
from everlong.resolution.megabyte import CrossPatchMegabyte, Megabyte
from everlong.resolution.patches import Patches
from everlong.resolution.routing import PaperRouting, Routing
from everlong.sequence.attention import Attention, WindowAttention
from everlong.sequence.linear_attention import LinearAttention
from everlong.sequence.patch_attention import PatchAttention
from everlong.testing.stream import VOCABULARY
from tests.laws.entries.shared import ROPE, block, stack

SHAPE: dict[str, Any] = {"heads": 2, "kv_heads": 1}
WORD = ((3, 9), (14, 14))  # of the laws' small vocabulary


def window(width: int) -> Part.Config:
    """Hears three positions."""
    return WindowAttention.Config(width=width, window=3, position=ROPE, **SHAPE)


def full(width: int) -> Part.Config:
    """Hears everything."""
    return Attention.Config(width=width, position=ROPE, **SHAPE)


def normed(width: int) -> Part.Config:
    """Hears three positions, of usual size."""
    return block(window(width))


def linear(width: int) -> Part.Config:
    """Has a recurrent state."""
    return LinearAttention.Config(width=width, heads=2)


def hierarchy(
    chunker: Chunker.Config, inner: Part.Config, outer: Callable[[int], Part.Config] = window
) -> Hierarchy.Config:
    """A part that hears chunks, between two that hear everything."""
    D = chunker.width
    return Hierarchy.Config(width=D, encoder=outer(D), chunker=chunker, inner=inner, decoder=outer(D))


SPACES = SpaceLike.Config(width=8, word=WORD, bytes_per_chunk=2.5)
ROUTED = Routing.Config(width=8, bytes_per_chunk=2.5)
INSIDE = hierarchy(PaperRouting.Config(width=12, bytes_per_chunk=1.5), full(16))
SMALL = LanguageModel.Config(vocabulary=VOCABULARY, body=linear(6), context_limit=None)
DOUBT: dict[str, Any] = {"width": 8, "model": SMALL, "bytes_per_chunk": 2.0}
RISING = EntropyRise.Config(**DOUBT, threshold=0.0)
PATCHES: dict[str, Any] = {"width": 8, "patch": 3, "inner": full(12), "local": full(8)}

PARTS: dict[str, Config] = {
    "hierarchy, space-like": hierarchy(SPACES, full(12), linear),
    "hierarchy, learned": hierarchy(ROUTED, block(Attention.Config(width=12, position=None, **SHAPE))),
    "hierarchy, learned inside fixed": hierarchy(FixedPatches.Config(width=8, size=2), INSIDE, normed),
    "hierarchy, by entropy": hierarchy(EntropyThreshold.Config(**DOUBT, threshold=3.8), full(8)),
    "hierarchy, by rising entropy, capped": hierarchy(
        Capped.Config(width=8, inner=RISING, chunks=2, positions=5), linear(8), normed
    ).replace(room=1.0),
    "patches": Patches.Config(**PATCHES),
    "patches of patches": Patches.Config(
        width=8,
        patch=2,
        inner=Patches.Config(width=8, patch=2, inner=linear(8), local=window(8)),
        local=linear(8),
    ),
    "megabyte, positions": Megabyte.Config(
        width=8,
        patch=4,
        inner=linear(8),
        local=full(8),
        vocabulary=VOCABULARY,
        positions=30,
        encoder=Convolutions.Config(width=2, taps=(3, 2)),
    ),
    "megabyte, across patches": CrossPatchMegabyte.Config(
        width=8,
        patch=3,
        inner=linear(6),
        local=stack(PatchAttention.Config(width=8, block=3, summary=2, position=ROPE, **SHAPE)),
        vocabulary=VOCABULARY,
        positions=None,
    ),
}

LOCAL: dict[str, Any] = {"local_layers": 1, "local_width": 8, "local_heads": 2}
MIDDLE: dict[str, Any] = {"middle_width": 8, "middle_heads": 2}
OUTER: dict[str, Any] = {"outer_width": 8, "outer_layers": 1}
SHRUNK: dict[str, dict[str, Any]] = {
    "megabyte": {**LOCAL, "patch": 3},
    "megabyte3": {**LOCAL, **MIDDLE, "middle_layers": 1, "patches": (2, 3)},
    "hnet": {**OUTER, "head_size": 4, "state_size": 5, "bytes_per_chunk": 2.0},
    "hnet2": {**OUTER, **MIDDLE, "middle_layers": 1, "head_size": 4, "state_size": 5, "rates": (2.0, 1.5)},
    "spacebyte": {**OUTER, "outer_heads": 2, "window": 3, "word": WORD},
}


def chunked(draw: random.Random, shape: dict[str, Any]) -> Part.Config:
    """Chunks of any kind around attention."""
    width = shape["width"]
    chunkers = [
        FixedPatches.Config(width=width, size=draw.randint(1, 5)),
        SpaceLike.Config(width=width, word=WORD),
        Routing.Config(width=width),
    ]
    return hierarchy(draw.choice(chunkers), stack(Attention.Config(**shape)))


def patched(draw: random.Random, shape: dict[str, Any]) -> Part.Config:
    """Patches of any size with attention inside and between."""
    mixer = Attention.Config(**shape)
    return Patches.Config(width=shape["width"], patch=draw.choice([1, 2, 4, 8]), inner=mixer, local=mixer)


def across(draw: random.Random, shape: dict[str, Any]) -> Part.Config:
    """Attention in patches of any size, which sees any end of the patch before."""
    block = draw.randint(1, 6)
    return PatchAttention.Config(**shape, block=block, summary=draw.randint(1, block))


MIXERS = [chunked, patched, across]


def at_nominal_rate(part: Hierarchy) -> None:
    """Throws away where its chunker opens chunks, for exactly the rate at which it is accounted for; all else that the
    chunker does, and what that costs, is its own."""
    chunker, decide = part.chunker, part.chunker.forward

    def forward(x_BTD: Tensor, span: Span, start_BT: Tensor, state: Any = None) -> tuple[Opening, Any]:
        opening, state = decide(x_BTD, span, start_BT, state)
        place_BT = span.position_BT.expand_as(span.ids_BT)  # what is accounted for is a plain stream
        opens_BT = torch.ceil((place_BT + 1) / chunker.bytes_per_chunk) > torch.ceil(place_BT / chunker.bytes_per_chunk)
        return Opening(opens_BT, alike=True, probability_BT=opening.probability_BT), state

    chunker.forward = forward  # type: ignore[method-assign]


NOMINAL = {Hierarchy: at_nominal_rate}
