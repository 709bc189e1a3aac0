"""The file that compression writes.

    magic and version                                                        5 bytes
    size and SHA-256 of the original, tokens, lanes, context, threads,
    length of the texts                                                      `_FIXED`, big-endian
    fingerprint, numerics, version of torch                                  texts, a line each
    the message of the arithmetic coder
    CRC-32 of all that                                                       4 bytes

The checksum finds damage at once; the SHA-256 proves in the end that what was made is the original.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import NoReturn

from everlong.core.errors import CompressionError

MOST_LANES = 4096
MOST_THREADS = 1024

_MAGIC = b"EVLZ\x01"
_FIXED = struct.Struct(">Q32sQIQHH")
_CHECKSUM = 4


@dataclass(frozen=True)
class Header:
    """What a decoder must know, and how it must compute to get the same probabilities."""

    size: int
    """Bytes of the original."""
    sha256: bytes
    """Digest of the original."""
    tokens: int
    lanes: int
    context: int
    """Tokens after which a lane begins anew; 0: never."""
    threads: int
    """CPU threads that the model ran on: they share out sums, so with another number sums round differently."""
    fingerprint: str
    """Of the model and its codec."""
    numerics: str
    """Kind of device, and dtype."""
    torch: str
    """Version of torch."""


def pack(header: Header, message: bytes) -> bytes:
    """The file that holds a message."""
    texts = "\n".join((header.fingerprint, header.numerics, header.torch)).encode()
    numbers = (header.size, header.sha256, header.tokens, header.lanes, header.context, header.threads, len(texts))
    content = _MAGIC + _FIXED.pack(*numbers) + texts + message
    return content + _checksum(content)


def unpack(blob: bytes) -> tuple[Header, bytes]:
    """The header and the message of a file.

    Raises:
        CompressionError: the file is of another kind, damaged or cut, or its numbers contradict each other.
    """
    if not blob.startswith(_MAGIC):
        _refuse("magic", blob[: len(_MAGIC)], "was not made by this version's `compress`")
    content = blob[:-_CHECKSUM]
    if len(content) < len(_MAGIC) + _FIXED.size or blob[-_CHECKSUM:] != _checksum(content):
        _refuse("checksum", blob[-_CHECKSUM:].hex(), "is damaged or cut: fetch it again")
    *numbers, length = _FIXED.unpack_from(content, len(_MAGIC))
    texts = content[len(_MAGIC) + _FIXED.size :][:length]
    try:
        header = Header(*numbers, *texts.decode().split("\n"))
    except (TypeError, UnicodeDecodeError) as error:
        raise CompressionError("header", str(error), "is not what `compress` writes") from error
    _check(header)
    return header, content[len(_MAGIC) + _FIXED.size + length :]


def _check(header: Header) -> None:
    if (header.tokens == 0) != (header.size == 0) or header.tokens > header.size:
        _refuse("tokens", header.tokens, f"cannot make {header.size} bytes, at least one each")
    if not 1 <= header.lanes <= min(MOST_LANES, max(1, header.tokens)):
        _refuse("lanes", header.lanes, f"cannot share out {header.tokens} tokens; at most {MOST_LANES}")
    if not 1 <= header.threads <= MOST_THREADS:
        _refuse("threads", header.threads, f"must be from 1 to {MOST_THREADS}")


def _checksum(content: bytes) -> bytes:
    return zlib.crc32(content).to_bytes(_CHECKSUM, "big")


def _refuse(field: str, value: object, reason: str) -> NoReturn:
    raise CompressionError(f"compressed file's {field}", value, f"the file {reason}")
