"""What a file says, once it is unpacked."""

from __future__ import annotations

import bz2
import gzip
import importlib
import lzma
import re
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from everlong.core.errors import DataError


def read_document(path: str | Path) -> bytes:
    """The content of a file; gzip, xz, bzip2 and zstd are unpacked. The first bytes decide, not the name.

    Raises:
        DataError: the file cannot be read, or what it packs is damaged.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        remedy = f"cannot be read ({error.strerror}): check that it is a file and that you may read it"
        raise DataError("data", str(path), remedy) from error
    for magic, kind, unpack in _PACKED:
        if magic.match(data):
            return _unpacked(path, data, kind, unpack)
    return data


def _unpacked(path: str | Path, data: bytes, kind: str, unpack: Callable[[bytes], bytes]) -> bytes:
    try:
        return unpack(data)
    except ImportError as error:
        remedy = "is packed with zstd: pip install zstandard, or unpack it first"
        raise DataError("data", str(path), remedy) from error
    except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError) as error:
        remedy = f"begins as {kind} but is damaged ({error}): fetch it again, or leave it out"
        raise DataError("data", str(path), remedy) from error


def _streams(new: Callable[[], Any], data: bytes) -> bytes:
    """Unpacks every stream; `lzma.decompress` and `bz2.decompress` silently stop at a damaged second one.

    Args:
        new: makes a decompressor of one stream, as the standard library writes them.
    """
    parts = []
    while data:
        stream = new()
        parts.append(stream.decompress(data))
        if not stream.eof:
            raise EOFError("it ends before its end marker")
        data = stream.unused_data.lstrip(b"\0")  # xz pads streams with NULs; no stream begins with one
    return b"".join(parts)


def _zstd() -> Any:
    """The standard library's zstd (Python >= 3.14) or the package `zstandard`, whichever there is."""
    try:
        return importlib.import_module("compression.zstd")
    except ModuleNotFoundError:
        return importlib.import_module("zstandard")


def _unzstd(data: bytes) -> bytes:
    zstd = _zstd()

    def new() -> Any:
        made = zstd.ZstdDecompressor()
        return made.decompressobj() if hasattr(made, "decompressobj") else made

    try:
        return _streams(new, data)
    except zstd.ZstdError as error:
        raise ValueError(str(error)) from error


_PACKED: tuple[tuple[re.Pattern[bytes], str, Callable[[bytes], bytes]], ...] = (
    (re.compile(rb"\x1f\x8b\x08"), "gzip", gzip.decompress),
    (re.compile(rb"\xfd7zXZ\0"), "xz", lambda data: _streams(lzma.LZMADecompressor, data)),
    (re.compile(rb"BZh[1-9](1AY&SY|\x17rE8P\x90)"), "bzip2", lambda data: _streams(bz2.BZ2Decompressor, data)),
    (re.compile(rb"\x28\xb5\x2f\xfd"), "zstd", _unzstd),
)
"""How packed files begin. A text may well begin with bzip2's three letters, so its first block must follow."""
