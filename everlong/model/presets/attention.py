"""Presets of attention: `transformer`, `window`, `sparse`."""

from __future__ import annotations

from everlong.model.presets.decoder import ROPE, decoder
from everlong.model.presets.registry import family, within
from everlong.sequence.attention import Attention, WindowAttention
from everlong.sequence.position import Position
from everlong.sequence.sparse import SparseAttention


@family()
@within(decoder)
def transformer(
    *, width: int, heads: int, kv_heads: int | None = None, position: Position | None = ROPE
) -> Attention.Config:
    """Full causal attention in every layer."""
    return Attention.Config(width=width, heads=heads, kv_heads=kv_heads, position=position)


@family()
@within(decoder)
def window(
    *, width: int, heads: int, kv_heads: int | None = None, position: Position | None = ROPE, window: int = 256
) -> Attention.Config:
    """Attention to the last `window` positions in every layer."""
    return WindowAttention.Config(width=width, heads=heads, kv_heads=kv_heads, position=position, window=window)


@family()
@within(decoder)
def sparse(
    *,
    width: int,
    heads: int,
    kv_heads: int | None = None,
    position: Position | None = ROPE,
    block: int = 128,
    summary: int = 8,
) -> Attention.Config:
    """The Sparse Transformer's fixed pattern in every layer."""
    shape = {"width": width, "heads": heads, "kv_heads": kv_heads, "position": position}
    return SparseAttention.Config(**shape, block=block, summary=summary)
