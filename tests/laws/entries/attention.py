"""Entries of attention, in all its patterns but the dilated one."""

from __future__ import annotations

import random
from typing import Any

from everlong import Config, Part
from everlong.sequence.attention import Attention, WindowAttention
from everlong.sequence.blockwise import BlockwiseAttention
from everlong.sequence.sparse import SparseAttention
from tests.laws.entries.shared import FULL, SHARED, SINGLE

PARTS: dict[str, Config] = {
    "attention": Attention.Config(**FULL),
    "attention, grouped, RoPE": Attention.Config(**SHARED),
    "attention, one kv head, xPos": Attention.Config(**SINGLE),
    "window of 1": WindowAttention.Config(**SHARED, window=1),
    "window of 2": WindowAttention.Config(**FULL, window=2),
    "window of 3": WindowAttention.Config(**SINGLE, window=3),
    "window of 7": WindowAttention.Config(**SHARED, window=7),
    "window beyond the stream": WindowAttention.Config(**SHARED, window=100),
    "sparse, blocks of 1": SparseAttention.Config(**SHARED, block=1, summary=1),
    "sparse, blocks of 4": SparseAttention.Config(**FULL, block=4, summary=1),
    "sparse, blocks of 4, xPos": SparseAttention.Config(**SINGLE, block=4, summary=3),
    "sparse, blocks of 5": SparseAttention.Config(**SHARED, block=5, summary=2),
    "sparse, all summaries": SparseAttention.Config(**SHARED, block=5, summary=5),
    "sparse, one block": SparseAttention.Config(**SHARED, block=100, summary=3),
    "blockwise": BlockwiseAttention.Config(**SHARED, block=4),
    "blockwise, xPos": BlockwiseAttention.Config(**SINGLE, block=1),
}

SHRUNK: dict[str, dict[str, Any]] = {"window": {"window": 5}, "sparse": {"block": 5, "summary": 2}}


def sparse(draw: random.Random, shape: dict[str, Any]) -> Part.Config:
    """Any blocks, with any summary."""
    block = draw.randint(1, 6)
    return SparseAttention.Config(**shape, block=block, summary=draw.randint(1, block))


MIXERS = [
    lambda _draw, shape: Attention.Config(**shape),
    lambda draw, shape: WindowAttention.Config(**shape, window=draw.randint(1, 9)),
    sparse,
]
