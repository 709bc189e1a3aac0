"""Entries of what joins parts: blocks and stacks."""

from __future__ import annotations

from everlong import Config
from everlong.sequence.attention import Attention, WindowAttention
from everlong.sequence.linear_attention import LinearAttention
from everlong.sequence.sparse import SparseAttention
from everlong.width.swiglu import SwiGLU
from tests.laws.entries.shared import SHARED, SINGLE, block, stack

PARTS: dict[str, Config] = {
    "swiglu": SwiGLU.Config(width=8, hidden=12),
    "block": block(WindowAttention.Config(**SHARED, window=3)),
    "stack of different mixers": stack(
        block(Attention.Config(**SINGLE)),
        block(LinearAttention.Config(width=16, heads=2)),
        block(SparseAttention.Config(**SHARED, block=4, summary=2)),
    ),
}
