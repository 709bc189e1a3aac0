"""Entries of n-gram memory."""

from __future__ import annotations

import random
from typing import Any

import everlong
from everlong import Config, Part
from everlong.memory.compression import Compression
from everlong.memory.engram import Engram
from everlong.memory.gate import Sigmoid
from everlong.memory.hashing import NGramHash, layer_hashes
from everlong.memory.ngram_head import NGramHeads
from everlong.memory.over_encoding import OverEncoding
from everlong.memory.short_convolution import ShortConvolution
from everlong.model.presets.engram import with_memory, with_ngram_heads
from everlong.testing.stream import VOCABULARY

COMPRESSION = Compression.pack([i if i < 3 else 3 + i % 4 for i in range(VOCABULARY)])


def hashes(orders: tuple[int, ...], heads: int, compression: Compression | None = None) -> NGramHash.Config:
    """Hashes to so few rows that n-grams meet in them."""
    pad = VOCABULARY - 1
    return layer_hashes(
        [1], vocabulary=VOCABULARY, orders=orders, rows=5, heads=heads, pad=pad, compression=compression
    )[1]


def engram(orders: tuple[int, ...], heads: int, **more: Any) -> Engram.Config:
    """A small n-gram memory."""
    return Engram.Config(width=8, hash=hashes(orders, heads), row_width=3, **more)


def convolution(taps: int, dilation: int, branches: int = 1) -> ShortConvolution.Config:
    """A convolution of the memory's width."""
    return ShortConvolution.Config(width=8, taps=taps, dilation=dilation, branches=branches)


def heads(orders: tuple[int, ...], window: int) -> NGramHeads.Config:
    """N-gram heads of a few compressed ids, so that n-grams come again."""
    return NGramHeads.Config(width=8, vocabulary=VOCABULARY, orders=orders, window=window, compression=COMPRESSION)


PARTS: dict[str, Config] = {
    "engram": engram(orders=(2, 3), heads=2),
    "engram, of single tokens": engram(orders=(1,), heads=1),
    "engram, long": engram(orders=(1, 4, 7), heads=1),
    "engram, convolved": engram(orders=(2, 3), heads=1, convolution=convolution(4, 3)),
    "engram, branches, convolved": engram(
        orders=(2,), heads=2, branches=4, gate=Sigmoid.Config(), convolution=convolution(2, 2, branches=4)
    ),
    "engram, compressed": Engram.Config(
        width=8, hash=hashes(orders=(1, 3), heads=1, compression=COMPRESSION), row_width=3
    ),
    "short convolution": convolution(4, 1),
    "short convolution, of one tap": convolution(1, 5),
    "short convolution, dilated, branches": convolution(3, 4, branches=2),
    "over-encoding": OverEncoding.Config(width=8, hash=hashes(orders=(2, 3), heads=2), row_width=3),
    "n-gram heads": heads(orders=(1, 2, 4), window=6),
}

_SMALL = {"orders": (2, 4), "rows": 7, "row_width": 3}
_CHUNKED = everlong.config(
    "spacebyte:nano", layers=1, width=12, heads=2, outer_width=8, outer_heads=2, window=3, hidden=16,
    word=((3, 9), (14, 14)), vocabulary=VOCABULARY,
)  # fmt: skip
PARTS["n-gram memory around chunks"] = with_ngram_heads(
    with_memory(_CHUNKED, memory_layers=(0,), **_SMALL), orders=(1, 3), window=6
)
SHRUNK: dict[str, dict[str, Any]] = {
    "engram": {"window": 5, "memory_layers": (0,), "ngram_heads": (1, 3), "ngram_window": 6, **_SMALL},
    "over-encoding": {"window": 5, **_SMALL},
    "everlong": {"window": 5, "pattern": "MT", "state_size": 5, "ngram_heads": (1, 3), "ngram_window": 6, **_SMALL},
}


def memory(draw: random.Random, shape: dict[str, Any]) -> Part.Config:
    """Single tokens, and n-grams of any order, convolved or not."""
    convolved = draw.choice([None, convolution(draw.randint(1, 4), draw.randint(1, 3))])
    return engram(orders=(1, 1 + draw.randint(1, 6)), heads=shape["heads"], convolution=convolved)


def recent(draw: random.Random, _shape: dict[str, Any]) -> Part.Config:
    """Heads of single tokens, and of n-grams."""
    return heads(orders=(1, 1 + draw.randint(1, 4)), window=draw.randint(1, 9))


MIXERS = [memory, recent]
