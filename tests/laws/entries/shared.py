"""What entries are made of: head counts with positions, and a block around a mixer."""

from __future__ import annotations

from typing import Any

from everlong import Part
from everlong.model.stack import Block, Stack
from everlong.sequence.position import Rotary, XPos
from everlong.width.swiglu import SwiGLU

ROPE = Rotary.Config()
XPOS = XPos.Config(scale_base=4.0)  # so short that a decay shows within a few positions
FULL: dict[str, Any] = {"width": 8, "heads": 2, "kv_heads": 2, "position": None}
SHARED: dict[str, Any] = {"width": 16, "heads": 4, "kv_heads": 2, "position": ROPE}
SINGLE: dict[str, Any] = {"width": 16, "heads": 4, "kv_heads": 1, "position": XPOS}


def block(mixer: Part.Config) -> Block.Config:
    """A block around a mixer."""
    return Block.Config(width=mixer.width, mixer=mixer, feed_forward=SwiGLU.Config(width=mixer.width, hidden=12))


def stack(*blocks: Part.Config) -> Stack.Config:
    """A stack of parts."""
    return Stack.Config(width=blocks[0].width, blocks=blocks)
