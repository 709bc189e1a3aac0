"""The proof that a model compresses: bytes become fewer, and come back exactly."""

from __future__ import annotations

import lzma
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from everlong.core.errors import CompressionError
from everlong.data import Codec
from everlong.data.progress import progress
from everlong.generate import compress, decompress
from everlong.model.language_model import LanguageModel
from everlong.train import model_fingerprint


@dataclass(frozen=True)
class RoundTrip:
    """What became of one file."""

    bytes: int
    compressed: int
    """Bytes of the compressed file, its header included."""
    xz: int
    """Bytes that xz makes of it, header included."""
    restored: bool
    """Whether the original came back, to the last bit."""


def round_trip(model: LanguageModel, codec: Codec, data: bytes) -> RoundTrip:
    """Compresses and restores `data` with a model."""
    fingerprint = model_fingerprint(model, codec)
    with reached("compressing", len(data)) as done:
        blob = compress(model, codec, data, fingerprint, progress=done)
    xz = lzma.compress(data, preset=9 | lzma.PRESET_EXTREME)
    return RoundTrip(len(data), len(blob), len(xz), _restored(model, codec, blob, fingerprint, len(data)) == data)


def _restored(model: LanguageModel, codec: Codec, blob: bytes, fingerprint: str, size: int) -> bytes | None:
    """What comes back; `None` if decompression finds that it is not the original."""
    with reached("decompressing", size) as done:
        try:
            return decompress(model, codec, blob, fingerprint, progress=done)
        except CompressionError:
            return None


@contextmanager
def reached(label: str, size: int) -> Iterator[Callable[[int], None]]:
    """As `data.progress.progress`, but the function it gives is told all the bytes that are done, not the new ones."""
    before = 0
    with progress(label, size) as advance:

        def tell(done: int) -> None:
            nonlocal before
            advance(float(done - before))
            before = done

        yield tell
