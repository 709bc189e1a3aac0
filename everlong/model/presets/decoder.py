"""What preset families share: a decoder of equal blocks."""

from __future__ import annotations

from everlong.core.config import check
from everlong.core.part import Part
from everlong.model.language_model import LanguageModel
from everlong.model.stack import Block, Stack
from everlong.sequence.position import Rotary
from everlong.width.swiglu import SwiGLU

BYTES = 259
"""The default vocabulary: 256 byte values, BOS, EOS and PAD."""

ROPE = Rotary.Config()
"""The default position encoding."""


def decoder(
    mixer: Part.Config,
    *,
    layers: int,
    hidden: int | None = None,
    vocabulary: int = BYTES,
    context_limit: int | None = None,
) -> LanguageModel.Config:
    """Equal pre-norm blocks of a mixer and SwiGLU, between an embedding and an untied head.

    Args:
        hidden: size of SwiGLU's gated layer; `None`: 8/3 of the width, rounded up to a multiple of 32.
    """
    body = blocks(mixer, layers=layers, hidden=hidden)
    return LanguageModel.Config(vocabulary=vocabulary, body=body, context_limit=context_limit)


def blocks(mixer: Part.Config, *, layers: int, hidden: int | None = None) -> Stack.Config:
    """The body of such a decoder."""
    check(layers >= 1, "layers", layers, "must be at least 1")
    feed_forward = SwiGLU.Config(width=mixer.width, hidden=hidden_size(mixer.width, hidden))
    block = Block.Config(width=mixer.width, mixer=mixer, feed_forward=feed_forward)
    return Stack.Config(width=mixer.width, blocks=(block,) * layers)


def hidden_size(width: int, hidden: int | None) -> int:
    """SwiGLU's gated layer: as given, or 8/3 of the width, rounded up to a multiple of 32."""
    return -(-8 * width // 3 // 32) * 32 if hidden is None else hidden
