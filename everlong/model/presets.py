"""Presets: named architectures at named sizes, as functions that return a full configuration.

`build("window:tiny", window=256)` calls the family's function with the size's dimensions and the overrides, then
builds. So an override changes an argument of the preset, before anything is made.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, cast

from everlong.core.config import check, suggest
from everlong.core.errors import ConfigError
from everlong.core.part import Part
from everlong.memory.engram import Engram
from everlong.memory.hashing import layer_hashes
from everlong.model.language_model import LanguageModel
from everlong.model.stack import Block, Residual, Stack
from everlong.sequence.attention import Attention, WindowAttention
from everlong.sequence.dilated import DilatedAttention
from everlong.sequence.dilation import geometric_schedule
from everlong.sequence.linear_attention import LinearAttention
from everlong.sequence.position import Position, Rotary, XPos
from everlong.sequence.sparse import SparseAttention
from everlong.width.swiglu import SwiGLU

SIZES: dict[str, dict[str, int]] = {
    "nano": {"layers": 3, "width": 96, "heads": 3},
    "tiny": {"layers": 3, "width": 256, "heads": 2},
    "small": {"layers": 10, "width": 512, "heads": 8},
    "base": {"layers": 18, "width": 768, "heads": 12},
}
"""nano: a few 1e5 parameters, for tests; tiny: 1M to 3M, for two CPU cores; small: about 30M; base: about 125M."""

OWN_SIZES: dict[str, dict[str, dict[str, Any]]] = {
    "longnet": {
        "paper": {
            "layers": 12,
            "width": 768,
            "heads": 12,
            "hidden": 3072,
            "position": XPos.Config(),
            "segment_lengths": (2048, 4096, 8192, 16384, 32768),
            "dilations": (1, 2, 4, 6, 12),
        }
    }
}
"""Sizes that one family has besides: those of its paper."""

LENGTHS, DILATIONS = geometric_schedule(512, 4, 8192, dilation_ratio=2)
"""The default branches of `longnet`, for contexts of a few thousand tokens and models of few heads."""

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
    return [f"{name}:{size}" for name in sorted(_families) for size in sizes(name)]


def sizes(family: str) -> dict[str, dict[str, Any]]:
    """The sizes of a family by name, each with the arguments that it sets."""
    return SIZES | OWN_SIZES.get(family, {})


def config(name: str, **overrides: Any) -> LanguageModel.Config:
    """The full configuration of a preset.

    Args:
        name: `family:size`, one of `presets()`.
        overrides: arguments of the family's function, such as `width`, `layers`, `heads` or `vocabulary`.

    Raises:
        ConfigError: an unknown family, size or override; it names the known ones.
    """
    known = arguments(name)
    for override in overrides:
        check(override in known, override, overrides[override], suggest(override, known))
    return _families[name.partition(":")[0]](**{**known, **overrides})


def arguments(name: str) -> dict[str, Any]:
    """The arguments that a preset gives to its family's function, defaults among them.

    Raises:
        ConfigError: an unknown family or size; it names the known ones.
    """
    chosen, _, size = name.partition(":")
    if chosen not in _families:
        raise ConfigError("preset", name, suggest(chosen, _families))
    if size not in sizes(chosen):
        raise ConfigError("size", size, suggest(size, sizes(chosen)))
    known = inspect.signature(_families[chosen]).parameters
    return {**{argument: parameter.default for argument, parameter in known.items()}, **sizes(chosen)[size]}


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


@family
def engram(
    *,
    layers: int,
    width: int,
    heads: int,
    kv_heads: int | None = None,
    position: Position | None = ROPE,
    window: int = 256,
    memory_layers: tuple[int, ...] = (1,),
    orders: tuple[int, ...] = (2, 3, 4, 5, 6),
    rows: int = 2**15,
    hash_heads: int = 1,
    row_width: int = 32,
    hidden: int | None = None,
    vocabulary: int = BYTES,
    context_limit: int | None = None,
) -> LanguageModel.Config:
    """Attention to the last `window` positions in every layer, and n-gram memory before some of them."""
    for layer in memory_layers:
        check(0 <= layer < layers, "memory_layers", memory_layers, f"must be layers of the model, 0 .. {layers - 1}")
    kv = heads if kv_heads is None else kv_heads
    mixer = WindowAttention.Config(width=width, heads=heads, kv_heads=kv, position=position, window=window)
    plain = decoder(mixer, layers=layers, vocabulary=vocabulary, context_limit=context_limit, hidden=hidden)
    hashes = layer_hashes(
        memory_layers, vocabulary=vocabulary, orders=orders, rows=rows, heads=hash_heads, pad=vocabulary - 1
    )
    return remember(
        plain, {i: Engram.Config(width=width, hash=hash, row_width=row_width) for i, hash in hashes.items()}
    )


def remember(config: LanguageModel.Config, memories: dict[int, Engram.Config]) -> LanguageModel.Config:
    """The same stack, with memories before some of its blocks."""
    stack = cast(Stack.Config, config.body)
    blocks: list[Part.Config] = []
    for i, block in enumerate(stack.blocks):
        if i in memories:
            blocks.append(Residual.Config(width=stack.width, inner=memories[i]))
        blocks.append(block)
    return config.replace(body=stack.replace(blocks=tuple(blocks)))
