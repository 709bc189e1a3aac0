"""Presets of n-gram memory beside a small transformer: `engram`, and `over-encoding`, its baseline without a gate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from everlong.core.config import check
from everlong.core.part import Part
from everlong.memory.compression import Compression, compress_tokenizer
from everlong.memory.engram import Engram
from everlong.memory.hashing import NGramHash, layer_hashes
from everlong.memory.ngram_head import NGramHeads
from everlong.memory.over_encoding import OverEncoding
from everlong.memory.short_convolution import ShortConvolution
from everlong.model.language_model import LanguageModel
from everlong.model.presets.attention import window
from everlong.model.presets.registry import extending, family
from everlong.model.stack import Residual, Stack
from everlong.resolution.hierarchy import Hierarchy

SPECIALS = 3
"""BOS, EOS and PAD, which a codec puts behind the ids of its tokenizer."""


PAPER = {
    "layers": 30,
    "width": 2560,
    "heads": 32,
    "vocabulary": 129_280,
    "memory_layers": (1, 14),
    "orders": (2, 3),
    "hash_heads": 8,
    "row_width": 80,
    "taps": 4,
}
"""The memory of the paper's large models (table 5), in a dense body of their depth and width: no experts, no latent
attention, one residual stream."""


@family(**{"27b": {**PAPER, "rows": 2_262_400}, "40b": {**PAPER, "rows": 7_239_680}})
@extending(window)
def engram(
    plain: LanguageModel.Config,
    *,
    memory_layers: Sequence[int] = (1,),
    orders: Sequence[int] = (2, 3, 4, 5, 6),
    rows: int = 2**15,
    hash_heads: int = 1,
    row_width: int = 32,
    taps: int = 0,
    ngram_heads: Sequence[int] = (),
    ngram_window: int = 4096,
    compression: str | None = None,
) -> LanguageModel.Config:
    """Attention to the last `window` positions in every layer, and n-gram memory before some of them.

    Args:
        rows: of a hash head, at least.
        taps: of a short convolution behind the memory, as far apart as the longest n-gram; 0: none.
        ngram_heads: orders of n-gram heads before the first layer; none by default.
        ngram_window: how many positions back they look.
        compression: a tokenizer.json, by which tokens that spell the same share their n-grams.
    """
    tables = {"orders": orders, "rows": rows, "hash_heads": hash_heads, "row_width": row_width, "taps": taps}
    remembering = with_memory(plain, memory_layers=memory_layers, **tables, compression=compression)
    return with_ngram_heads(remembering, orders=ngram_heads, window=ngram_window, compression=compression)


@family()
@extending(window)
def over_encoding(
    plain: LanguageModel.Config,
    *,
    orders: Sequence[int] = (2, 3, 4, 5, 6),
    rows: int = 2**15,
    hash_heads: int = 1,
    row_width: int = 32,
    compression: str | None = None,
) -> LanguageModel.Config:
    """Attention to the last `window` positions in every layer, of embeddings of tokens and n-grams.

    Args:
        rows: of a hash head, at least.
        compression: a tokenizer.json, by which tokens that spell the same share their n-grams.
    """
    hash = _hashes([0], plain.vocabulary, orders, rows, hash_heads, compression)[0]
    return insert(plain, {0: [OverEncoding.Config(width=plain.body.width, hash=hash, row_width=row_width)]})


def with_memory(
    config: LanguageModel.Config,
    *,
    memory_layers: Sequence[int],
    orders: Sequence[int],
    rows: int,
    row_width: int,
    hash_heads: int = 1,
    taps: int = 0,
    compression: str | None = None,
) -> LanguageModel.Config:
    """The same model, with n-gram memory before some layers of its stack; see `engram`, and `insert`."""
    layers, width = len(stack_of(config.body).blocks), config.body.width
    for layer in memory_layers:
        check(0 <= layer < layers, "memory_layers", memory_layers, f"must be layers of the model, 0 .. {layers - 1}")
    check(taps >= 0, "taps", taps, "must be 0 or more")
    hashes = _hashes(memory_layers, config.vocabulary, orders, rows, hash_heads, compression)
    convolution = ShortConvolution.Config(width=width, taps=taps, dilation=max(orders)) if taps else None
    memories = {
        i: Engram.Config(width=width, hash=hash, row_width=row_width, convolution=convolution)
        for i, hash in hashes.items()
    }
    return insert(config, {i: [Residual.Config(width=width, inner=memory)] for i, memory in memories.items()})


def with_ngram_heads(
    config: LanguageModel.Config, *, orders: Sequence[int], window: int, compression: str | None = None
) -> LanguageModel.Config:
    """The same model, with n-gram heads of some orders before all of it; of none, the model itself."""
    if not orders:
        return config
    sizes = {"width": config.body.width, "vocabulary": config.vocabulary, "orders": tuple(orders), "window": window}
    return insert(config, {0: [NGramHeads.Config(**sizes, compression=_compression(compression))]})


def insert(config: LanguageModel.Config, parts: Mapping[int, Sequence[Part.Config]]) -> LanguageModel.Config:
    """The same model, with parts before some blocks of its stack; of a hierarchy, that is the one that reads every
    token."""
    stack = stack_of(config.body)
    blocks: list[Part.Config] = []
    for i, block in enumerate(stack.blocks):
        blocks += [*parts.get(i, ()), block]
    changed = stack.replace(blocks=tuple(blocks))
    body = config.body.replace(encoder=changed) if isinstance(config.body, Hierarchy.Config) else changed
    return config.replace(body=body)


def stack_of(body: Part.Config) -> Stack.Config:
    """The stack of a body that reads every token."""
    return cast(Stack.Config, body.encoder if isinstance(body, Hierarchy.Config) else body)


def _hashes(
    layers: Sequence[int], vocabulary: int, orders: Sequence[int], rows: int, heads: int, tokenizer: str | None
) -> dict[int, NGramHash.Config]:
    """Hashes of the layers' n-grams, with the last id, PAD, before a document."""
    return layer_hashes(
        layers,
        vocabulary=vocabulary,
        orders=orders,
        rows=rows,
        heads=heads,
        pad=vocabulary - 1,
        compression=_compression(tokenizer),
    )


def _compression(tokenizer: str | None) -> Compression | None:
    return None if tokenizer is None else compress_tokenizer(tokenizer, specials=SPECIALS)
