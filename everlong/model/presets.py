"""Presets: named architectures at named sizes, as functions that return a full configuration.

`build("window:tiny", window=256)` calls the family's function with the size's dimensions and the overrides, then
builds. So an override changes an argument of the preset, before anything is made.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from everlong.core.config import check, suggest
from everlong.core.errors import ConfigError
from everlong.core.part import Part
from everlong.model.language_model import LanguageModel
from everlong.model.stack import Block, Stack
from everlong.sequence.attention import Attention, WindowAttention
from everlong.sequence.linear_attention import LinearAttention
from everlong.sequence.position import Position, Rotary
from everlong.sequence.sparse import SparseAttention
from everlong.width.swiglu import SwiGLU

SIZES: dict[str, dict[str, int]] = {
    "nano": {"layers": 3, "width": 96, "heads": 3},
    "tiny": {"layers": 3, "width": 256, "heads": 2},
    "small": {"layers": 10, "width": 512, "heads": 8},
    "base": {"layers": 18, "width": 768, "heads": 12},
}
"""nano: a few 1e5 parameters, for tests; tiny: 1M to 3M, for two CPU cores; small: about 30M; base: about 125M."""

BYTES = 259
"""The default vocabulary: 256 byte values, BOS, EOS and PAD."""

ROPE = Rotary.Config()
"""The default position encoding."""

Family = Callable[..., LanguageModel.Config]
_families: dict[str, Family] = {}


def family(function: Family) -> Family:
    """Registers a preset family under its function's name."""
    _families[function.__name__.replace("_", "-")] = function
    return function


def presets() -> list[str]:
    """The names of all presets, `family:size`."""
    return [f"{name}:{size}" for name in sorted(_families) for size in SIZES]


def config(name: str, **overrides: Any) -> LanguageModel.Config:
    """The full configuration of a preset.

    Args:
        name: `family:size`, one of `presets()`.
        overrides: arguments of the family's function, such as `width`, `layers`, `heads` or `vocabulary`.

    Raises:
        ConfigError: an unknown family, size or override; it names the known ones.
    """
    chosen, _, size = name.partition(":")
    if chosen not in _families:
        raise ConfigError("preset", name, suggest(chosen, _families))
    if size not in SIZES:
        raise ConfigError("size", size, suggest(size, SIZES))
    function = _families[chosen]
    known = inspect.signature(function).parameters
    for override in overrides:
        check(override in known, override, overrides[override], suggest(override, known))
    return function(**{**SIZES[size], **overrides})


def build(name: str, **overrides: Any) -> LanguageModel:
    """Builds a preset: `everlong.build("transformer:tiny")`. See `config`."""
    return config(name, **overrides).build()


def decoder(
    mixer: Part.Config, *, layers: int, vocabulary: int, context_limit: int | None, hidden: int | None
) -> LanguageModel.Config:
    """Equal pre-norm blocks of a mixer and SwiGLU, between an embedding and an untied head.

    Args:
        hidden: size of SwiGLU's gated layer; `None`: 8/3 of the width, rounded up to a multiple of 32.
    """
    check(layers >= 1, "layers", layers, "must be at least 1")
    hidden = -(-8 * mixer.width // 3 // 32) * 32 if hidden is None else hidden
    feed_forward = SwiGLU.Config(width=mixer.width, hidden=hidden)
    block = Block.Config(width=mixer.width, mixer=mixer, feed_forward=feed_forward)
    body = Stack.Config(width=mixer.width, blocks=(block,) * layers)
    return LanguageModel.Config(vocabulary=vocabulary, body=body, context_limit=context_limit)


@family
def transformer(
    *,
    layers: int,
    width: int,
    heads: int,
    kv_heads: int | None = None,
    position: Position | None = ROPE,
    hidden: int | None = None,
    vocabulary: int = BYTES,
    context_limit: int | None = None,
) -> LanguageModel.Config:
    """Full causal attention in every layer."""
    kv = heads if kv_heads is None else kv_heads
    mixer = Attention.Config(width=width, heads=heads, kv_heads=kv, position=position)
    return decoder(mixer, layers=layers, vocabulary=vocabulary, context_limit=context_limit, hidden=hidden)


@family
def window(
    *,
    layers: int,
    width: int,
    heads: int,
    kv_heads: int | None = None,
    position: Position | None = ROPE,
    window: int = 256,
    hidden: int | None = None,
    vocabulary: int = BYTES,
    context_limit: int | None = None,
) -> LanguageModel.Config:
    """Attention to the last `window` positions in every layer."""
    kv = heads if kv_heads is None else kv_heads
    mixer = WindowAttention.Config(width=width, heads=heads, kv_heads=kv, position=position, window=window)
    return decoder(mixer, layers=layers, vocabulary=vocabulary, context_limit=context_limit, hidden=hidden)


@family
def sparse(
    *,
    layers: int,
    width: int,
    heads: int,
    kv_heads: int | None = None,
    position: Position | None = ROPE,
    block: int = 128,
    summary: int = 8,
    hidden: int | None = None,
    vocabulary: int = BYTES,
    context_limit: int | None = None,
) -> LanguageModel.Config:
    """The Sparse Transformer's fixed pattern in every layer."""
    kv = heads if kv_heads is None else kv_heads
    mixer = SparseAttention.Config(
        width=width, heads=heads, kv_heads=kv, position=position, block=block, summary=summary
    )
    return decoder(mixer, layers=layers, vocabulary=vocabulary, context_limit=context_limit, hidden=hidden)


@family
def linear(
    *,
    layers: int,
    width: int,
    heads: int,
    hidden: int | None = None,
    vocabulary: int = BYTES,
    context_limit: int | None = None,
) -> LanguageModel.Config:
    """Linear attention (ELU + 1) in every layer."""
    mixer = LinearAttention.Config(width=width, heads=heads)
    return decoder(mixer, layers=layers, vocabulary=vocabulary, context_limit=context_limit, hidden=hidden)
