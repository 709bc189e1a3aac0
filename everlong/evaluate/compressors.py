"""General compressors as baselines: bits per byte of gzip, bz2 and xz on the documents a model is scored on.

Three questions, from the weakest baseline to the strongest:

    each     every document alone, as the model sees it; the containers' headers count, as they would in a file
    solid    all documents in one piece, so that later ones profit from earlier ones
    primed   what xz adds for the documents when it has just compressed the training bytes

`primed` is the honest baseline for a model that was trained: size(training + documents) - size(training), both in
one LZMA2 stream without a container, whose dictionary of 64 MiB reaches back over all of it. The documents follow
the training bytes in one piece, so like `solid` it lets them learn from each other, which no model scored document
by document may do.
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from everlong.core.config import check
from everlong.data.progress import progress
from everlong.data.store import TokenStore

DICTIONARY = 64 << 20
"""Bytes that primed xz can look back."""

_PRESET = 9 | lzma.PRESET_EXTREME
_STEP = 1 << 18  # bytes between two signs of progress


@runtime_checkable
class Stream(Protocol):
    """A compressor that is fed piece by piece."""

    def compress(self, data: bytes, /) -> bytes: ...
    def flush(self) -> bytes: ...


COMPRESSORS: dict[str, Callable[[], Stream]] = {
    "gzip": lambda: zlib.compressobj(level=9, wbits=31),
    "bz2": lambda: bz2.BZ2Compressor(9),
    "xz": lambda: lzma.LZMACompressor(preset=_PRESET),
}
"""The strongest setting of each; the sizes are those of `gzip.compress(..., 9)` and its like."""


@dataclass(frozen=True)
class Baselines:
    """Bits per byte of general compressors, by name."""

    each: dict[str, float]
    """Every document compressed alone."""
    solid: dict[str, float]
    """All documents compressed in one piece."""
    xz_primed: float | None
    """What xz adds after the training bytes; `None` without any."""


def baselines(
    held_out: TokenStore, training: TokenStore | None = None, *, training_limit: int = DICTIONARY
) -> Baselines:
    """Compresses the true bytes of held-out documents with every compressor.

    Args:
        held_out: the documents.
        training: what primed xz compresses first.
        training_limit: the most training bytes to take, those at the end; the dictionary forgets what lies
            further back. Time grows with it: about 2 MB/s on each of two cores.

    Raises:
        ConfigError: `training_limit` is out of range.
    """
    check(0 <= training_limit <= DICTIONARY, "training_limit", training_limit, f"must be from 0 to {DICTIONARY}")
    documents = [held_out.codec.decode(held_out.document(i)) for i in range(len(held_out))]
    total = held_out.total_bytes
    with progress("gzip, bz2, xz", 2 * len(COMPRESSORS) * total) as advance:
        each = {
            name: 8 * sum(compressed_size(new(), [document], advance) for document in documents) / total
            for name, new in COMPRESSORS.items()
        }
        solid = {name: 8 * compressed_size(new(), documents, advance) / total for name, new in COMPRESSORS.items()}
    if training is None:
        return Baselines(each, solid, None)
    return Baselines(each, solid, 8 * primed_size(documents, last_bytes(training, training_limit)) / total)


def primed_size(documents: list[bytes], training: list[bytes]) -> int:
    """Bytes that xz adds for `documents` when it has compressed `training` before them in the same stream."""
    streams = (training, training + documents)
    with progress("xz after training bytes", _length(*streams)) as advance, ThreadPoolExecutor() as pool:
        sizes = pool.map(lambda stream: compressed_size(_raw_xz(), stream, advance), streams)  # xz releases the GIL
        before, after = sizes
    return after - before


def compressed_size(stream: Stream, documents: Iterable[bytes], advance: Callable[[float], None]) -> int:
    """Bytes of `documents` compressed in one piece; `advance` is told the bytes that were just read."""
    size = 0
    for piece in _pieces(documents):
        size += len(stream.compress(piece))
        advance(float(len(piece)))
    return size + len(stream.flush())


def last_bytes(store: TokenStore, limit: int) -> list[bytes]:
    """True bytes of a store's last documents, `limit` at most; the first of them is cut to fit."""
    kept: list[bytes] = []
    for i in reversed(range(len(store))):
        if limit == 0:
            break
        kept.append(store.codec.decode(store.document(i))[-limit:])
        limit -= len(kept[-1])
    return kept[::-1]


def _raw_xz() -> lzma.LZMACompressor:
    filters = [{"id": lzma.FILTER_LZMA2, "preset": _PRESET, "dict_size": DICTIONARY}]
    return lzma.LZMACompressor(format=lzma.FORMAT_RAW, filters=filters)


def _pieces(documents: Iterable[bytes]) -> Iterator[bytes]:
    for document in documents:
        yield from (document[start : start + _STEP] for start in range(0, len(document), _STEP))


def _length(*streams: list[bytes]) -> int:
    return sum(len(document) for stream in streams for document in stream)
