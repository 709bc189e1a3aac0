"""The file that compression writes; all but the message takes about 44 bytes.

    magic and version                                          4 bytes
    digest of the original, fingerprint of the model,
    numerics, version of torch                                 `_FIXED`, big-endian
    size of the original, tokens, lanes, context, threads      7 bits a byte, the lowest first, the last below 128
    the message of the arithmetic coder
    CRC-32 of all that                                         4 bytes

The checksum finds damage at once; the digest proves in the end that what was made is the original.
"""

from __future__ import annotations

import hashlib
import itertools
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NoReturn

import torch

from everlong.core.config import check
from everlong.core.errors import CompressionError

MOST_LANES = 4096
MOST_THREADS = 1024

_MAGIC = b"EVZ\x01"
_FIXED = struct.Struct(">16s8sBBB")
_CHECKSUM = 4
_NUMERICS = [
    f"{device} {dtype}"
    for device, dtype in itertools.product(
        ("cpu", "cuda", "mps", "xpu"), ("torch.float32", "torch.bfloat16", "torch.float16", "torch.float64")
    )
]


@dataclass(frozen=True)
class Header:
    """What a decoder must know, and how it must compute to get the same probabilities."""

    digest: bytes
    """Of the original, by `digest`."""
    fingerprint: str
    """Of the model and its codec: 16 hexadecimal digits."""
    numerics: str
    """Kind of device, and dtype."""
    torch: tuple[int, int]
    """Version of torch, major and minor."""
    size: int
    """Bytes of the original."""
    tokens: int
    lanes: int
    context: int
    """Tokens after which a lane begins anew; 0: never."""
    threads: int
    """CPU threads that the model ran on: they share out sums, so with another number sums round differently."""


def digest(data: bytes) -> bytes:
    """The first half of the SHA-256."""
    return hashlib.sha256(data).digest()[:16]


def short_fingerprint(fingerprint: str) -> str:
    """The 16 hexadecimal digits that a header holds.

    Raises:
        ConfigError: the fingerprint does not begin with them.
    """
    short = fingerprint[:16].lower()
    holds = len(short) == 16 and set(short) <= set("0123456789abcdef")
    check(holds, "fingerprint", fingerprint, "must have at least 16 hexadecimal digits, such as a SHA-256")
    return short


def numerics(tensor: torch.Tensor) -> str:
    """How a model with such parameters computes.

    Raises:
        ConfigError: the file format does not know the device or dtype.
    """
    name = f"{tensor.device.type} {tensor.dtype}"
    check(name in _NUMERICS, "model's numerics", name, f"must be one of {', '.join(_NUMERICS)}")
    return name


def pack(header: Header, message: bytes) -> bytes:
    """The file that holds a message."""
    fixed = _FIXED.pack(
        header.digest, bytes.fromhex(header.fingerprint), _NUMERICS.index(header.numerics), *header.torch
    )
    numbers = (header.size, header.tokens, header.lanes, header.context, header.threads)
    content = _MAGIC + fixed + b"".join(map(_number, numbers)) + message
    return content + _checksum(content)


def unpack(blob: bytes) -> tuple[Header, bytes]:
    """The header and the message of a file.

    Raises:
        CompressionError: the file is of another kind, damaged or cut, or its numbers contradict each other.
    """
    if not blob.startswith(_MAGIC):
        _refuse("magic", blob[: len(_MAGIC)], "was not made by this version's `compress`")
    content, checksum = blob[:-_CHECKSUM], blob[-_CHECKSUM:]
    if checksum != _checksum(content):
        _refuse("checksum", checksum.hex(), "is damaged or cut: fetch it again")
    if len(content) < len(_MAGIC) + _FIXED.size:
        _refuse("size", len(blob), "is too short to have a header")
    made, fingerprint, kind, *version = _FIXED.unpack_from(content, len(_MAGIC))
    if kind >= len(_NUMERICS):
        _refuse("numerics", kind, f"must tell one of {len(_NUMERICS)} kinds")
    rest = iter(content[len(_MAGIC) + _FIXED.size :])
    numbers = [_read_number(rest) for _ in range(5)]
    header = Header(made, fingerprint.hex(), _NUMERICS[kind], (version[0], version[1]), *numbers)
    _check(header)
    return header, bytes(rest)


def _check(header: Header) -> None:
    if (header.tokens == 0) != (header.size == 0) or header.tokens > header.size:
        _refuse("tokens", header.tokens, f"cannot hold {header.size} bytes in as many tokens, at least one byte each")
    if not 1 <= header.lanes <= min(MOST_LANES, max(1, header.tokens)):
        _refuse("lanes", header.lanes, f"cannot share {header.tokens} tokens out among them; at most {MOST_LANES}")
    if not 1 <= header.threads <= MOST_THREADS:
        _refuse("threads", header.threads, f"must have been made on 1 to {MOST_THREADS}")


def _number(n: int) -> bytes:
    return bytes([n]) if n < 128 else bytes([128 + n % 128]) + _number(n // 128)


def _read_number(data: Iterator[int]) -> int:
    number = 0
    for place, byte in zip(range(0, 64, 7), data, strict=False):
        number += (byte % 128) << place
        if byte < 128:
            return number
    raise CompressionError("compressed file's header", "a number without end", "is not what `compress` writes")


def _checksum(content: bytes) -> bytes:
    return zlib.crc32(content).to_bytes(_CHECKSUM, "big")


def _refuse(field: str, value: object, reason: str) -> NoReturn:
    raise CompressionError(f"compressed file's {field}", value, f"the file {reason}")
