"""Presets of Mamba-2 and attention together: `hybrid` (3:1), `hybrid7` (7:1), `parallel-hybrid`."""

from __future__ import annotations

from itertools import cycle, islice

from everlong.core.config import check
from everlong.core.part import Part
from everlong.model.branch import Branch
from everlong.model.language_model import LanguageModel
from everlong.model.parallel import Parallel
from everlong.model.pattern import HNET
from everlong.model.pattern import layers as layers_of
from everlong.model.presets.decoder import BYTES, ROPE, decoder, hidden_size
from everlong.model.presets.mamba import mamba2
from everlong.model.presets.registry import family, within
from everlong.model.stack import Block, Stack
from everlong.sequence.attention import Attention, WindowAttention
from everlong.sequence.position import Position
from everlong.width.swiglu import SwiGLU

THREE = {
    "nano": {"layers": 4, "width": 96, "heads": 3, "state_size": 64},
    "tiny": {"layers": 4, "width": 256, "heads": 4},
    "small": {"layers": 16, "width": 512, "heads": 8},
    "base": {"layers": 24, "width": 768, "heads": 12},
}
SEVEN = {
    "nano": {"layers": 8, "width": 96, "heads": 3, "state_size": 64},
    "tiny": {"layers": 8, "width": 256, "heads": 4, "state_size": 64},
    "small": {"layers": 16, "width": 512, "heads": 8},
    "base": {"layers": 24, "width": 768, "heads": 12},
}
SIDE_BY_SIDE = {
    "nano": {"layers": 3, "width": 96, "heads": 3, "state_size": 64},
    "tiny": {"layers": 3, "width": 256, "heads": 4},
    "small": {"layers": 6, "width": 512, "heads": 8},
    "base": {"layers": 12, "width": 768, "heads": 12},
}
"""The common sizes: about as many parameters as those of other families."""


def kinds(
    *,
    width: int,
    heads: int,
    kv_heads: int | None,
    position: Position | None,
    state_size: int,
    expand: int,
    hidden: int | None,
    window: int | None,
) -> dict[str, Part.Config]:
    """The layers that H-Net's letters stand for (`everlong.model.pattern.HNET`).

    Args:
        window: positions that attention sees; `None`: all.
    """
    mamba = mamba2(width, heads, state_size, expand)
    shape = {"width": width, "heads": heads, "kv_heads": kv_heads, "position": position}
    attention = Attention.Config(**shape) if window is None else WindowAttention.Config(**shape, window=window)
    feed_forward = SwiGLU.Config(width=width, hidden=hidden_size(width, hidden))
    return {
        "m": Branch.Config(width=width, inner=mamba),
        "M": Block.Config(width=width, mixer=mamba, feed_forward=feed_forward),
        "t": Branch.Config(width=width, inner=attention),
        "T": Block.Config(width=width, mixer=attention, feed_forward=feed_forward),
    }


def patterned(
    pattern: str, parts: dict[str, Part.Config], *, layers: int, vocabulary: int, context_limit: int | None
) -> LanguageModel.Config:
    """A model whose first layers are those of a pattern, which begins again until there are enough."""
    check(layers >= 1, "layers", layers, "must be at least 1")
    blocks = tuple(parts[letter] for letter in islice(cycle(layers_of(pattern, HNET)), layers))
    body = Stack.Config(width=blocks[0].width, blocks=blocks)
    return LanguageModel.Config(vocabulary=vocabulary, body=body, context_limit=context_limit)


@family("hybrid7", **{size: {**shape, "pattern": "m7T"} for size, shape in SEVEN.items()})
@family(**THREE)
def hybrid(
    *,
    layers: int,
    width: int,
    heads: int,
    kv_heads: int | None = None,
    position: Position | None = ROPE,
    pattern: str = "m3T",
    window: int | None = None,
    state_size: int = 128,
    expand: int = 2,
    hidden: int | None = None,
    vocabulary: int = BYTES,
    context_limit: int | None = None,
) -> LanguageModel.Config:
    """Three layers of Mamba-2, then a block of attention, over and over; or any pattern of H-Net's letters: m and t are
    Mamba-2 and attention alone, M and T the same with a feed-forward.

    Args:
        window: positions that attention sees; `None`: all.
    """
    shape = {"width": width, "heads": heads, "kv_heads": kv_heads, "position": position, "window": window}
    parts = kinds(**shape, state_size=state_size, expand=expand, hidden=hidden)
    return patterned(pattern, parts, layers=layers, vocabulary=vocabulary, context_limit=context_limit)


@family(**SIDE_BY_SIDE)
@within(decoder)
def parallel_hybrid(
    *,
    width: int,
    heads: int,
    kv_heads: int | None = None,
    position: Position | None = ROPE,
    state_size: int = 128,
    expand: int = 2,
) -> Parallel.Config:
    """Mamba-2 and attention in every layer, side by side, as in Falcon-H1."""
    attention = Attention.Config(width=width, heads=heads, kv_heads=kv_heads, position=position)
    return Parallel.Config(width=width, parts=(mamba2(width, heads, state_size, expand), attention))
