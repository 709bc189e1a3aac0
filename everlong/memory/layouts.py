"""Hashes of published models, as arguments of `layer_hashes`: rows, multipliers and addresses are theirs.

demo            the authors' code (deepseek-ai/Engram), DeepSeek-V3's tokenizer, compressed
deepseek-v4.1   DeepSeek-V4.1-Flash; its row counts are known to be these, its multipliers only by the same rule
qwen            the n-gram table of Qwen3.8-Flash-Next, of ids as they are; a document ends with EOS, which stands
                before the next one too. (Its table is padded to a multiple of 128 rows, which nothing addresses.)
"""

from __future__ import annotations

from typing import Any

from everlong.core.config import check, suggest
from everlong.memory.compression import Compression
from everlong.memory.hashing import NGramHash, layer_hashes, splitmixed

LAYOUTS: dict[str, dict[str, Any]] = {
    "demo": {"layers": (1, 15), "vocabulary": 129_280, "orders": (2, 3), "rows": 646_400, "heads": 8, "pad": 2},
    "deepseek-v4.1": {
        "layers": (1, 14),
        "vocabulary": 129_280,
        "orders": (2, 3, 4),
        "rows": 16_000_000,
        "heads": 8,
        "pad": 2,
    },
    "qwen": {
        "layers": (0,),
        "vocabulary": 248_320,
        "orders": (2, 3),
        "rows": 20_000_000,
        "heads": 8,
        "pad": 248_044,
        "seed": 1234,
        "draw": splitmixed,
    },
}
"""Rows are those of a head, at least."""


def published(name: str, compression: Compression | None = None) -> dict[int, NGramHash.Config]:
    """The hashes of a published model, by layer.

    Args:
        name: one of `LAYOUTS`.
        compression: that of the tokenizer, if the model compresses its ids.

    Raises:
        ConfigError: no such layout is known, or the compression is of another vocabulary.
    """
    check(name in LAYOUTS, "layout", name, suggest(name, LAYOUTS))
    return layer_hashes(**LAYOUTS[name], compression=compression)
