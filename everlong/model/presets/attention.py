"""Presets of attention: `transformer`, `window`, `sparse`."""

from __future__ import annotations

from everlong.model.language_model import LanguageModel
from everlong.model.presets.decoder import BYTES, ROPE, decoder
from everlong.model.presets.registry import family
from everlong.sequence.attention import Attention, WindowAttention
from everlong.sequence.position import Position
from everlong.sequence.sparse import SparseAttention


@family()
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


@family()
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


@family()
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
