"""Preset `engram`: a small transformer beside n-gram memory."""

from __future__ import annotations

from typing import cast

from everlong.core.config import check
from everlong.core.part import Part
from everlong.memory.engram import Engram
from everlong.memory.hashing import layer_hashes
from everlong.model.language_model import LanguageModel
from everlong.model.presets.decoder import BYTES, ROPE, decoder
from everlong.model.presets.registry import family
from everlong.model.stack import Residual, Stack
from everlong.sequence.attention import WindowAttention
from everlong.sequence.position import Position


@family()
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
