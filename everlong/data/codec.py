"""Codecs turn bytes into token ids and back, and lose nothing.

Every codec puts three ids of its own after those that stand for bytes: BOS opens a document, EOS closes it,
PAD fills a row. They stand for no bytes, and `encode` never makes them: no content can forge a border.

Legend: T tokens, V vocabulary.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int64, Integer

from everlong.core.errors import DataError

Ids = Sequence[int] | Integer[np.ndarray, " t"]

BLOCK = 1 << 20
"""Bytes that are encoded at once, which bounds the memory that encoding takes."""


@runtime_checkable
class Codec(Protocol):
    """A lossless map between bytes and token ids: `decode(encode(data)) == data` for any bytes.

    A document may be encoded piecewise: `encode(data)` is `encode(block)` of all `blocks(data)` in a row.
    """

    vocabulary: int
    """V, the number of ids, the three special ones included."""
    bos: int
    eos: int
    pad: int

    def encode(self, data: bytes) -> Int64[np.ndarray, " t"]:
        """Ids of `data`, none of them special."""
        ...

    def decode(self, ids: Ids) -> bytes:
        """Bytes of `ids`; special ids stand for nothing.

        Raises:
            DataError: an id is outside the vocabulary.
        """
        ...

    def byte_lengths(self) -> Int64[np.ndarray, " v"]:
        """Bytes that each id stands for; 0 for special ids."""
        ...

    def to_config(self) -> dict[str, Any]:
        """All that `codec_from_config` needs to make this codec again, as JSON values."""
        ...

    def fingerprint(self) -> str:
        """A hash that two codecs share exactly if they encode alike."""
        return hashlib.sha256(json.dumps(self.to_config(), sort_keys=True).encode()).hexdigest()


def codec_from_config(config: dict[str, Any]) -> Codec:
    """Makes the codec whose `to_config` gave `config`.

    Raises:
        DataError: the kind of codec is unknown, or its tokenizer cannot be used.
    """
    match config:
        case {"kind": "bytes"}:
            return ByteCodec()
        case {"kind": "tokenizer", "tokenizer": str(text)}:
            from everlong.data.tokenizer import TokenizerCodec  # it builds on this file

            return TokenizerCodec("tokenizer.json", text=text)
    raise DataError("codec.kind", config.get("kind"), "is neither 'bytes' nor a complete 'tokenizer'")


def blocks(data: bytes) -> Iterator[bytes]:
    """Cuts `data` into blocks of at most `BLOCK` bytes, each at its last line end if it has one."""
    start = 0
    while start < len(data):
        stop = start + BLOCK
        if stop < len(data):
            stop = data.rfind(b"\n", start, stop) + 1 or stop
        yield data[start:stop]
        start = stop


def within_vocabulary(ids: Ids, vocabulary: int) -> Int64[np.ndarray, " t"]:
    """`ids` as an array.

    Raises:
        DataError: an id is outside the vocabulary.
    """
    ids_T = np.asarray(ids, dtype=np.int64)
    wrong = ids_T[(ids_T < 0) | (ids_T >= vocabulary)]
    if wrong.size:
        remedy = f"must be from 0 to {vocabulary - 1}: decode with the model's own codec"
        raise DataError("ids", int(wrong[0]), remedy)
    return ids_T


class ByteCodec(Codec):
    """A byte is its own id, NUL included; the special ids lie outside 0..255."""

    vocabulary = 259
    bos, eos, pad = 256, 257, 258

    def encode(self, data: bytes) -> Int64[np.ndarray, " t"]:
        return np.frombuffer(data, np.uint8).astype(np.int64)

    def decode(self, ids: Ids) -> bytes:
        ids_T = within_vocabulary(ids, self.vocabulary)
        return ids_T[ids_T < 256].astype(np.uint8).tobytes()

    def byte_lengths(self) -> Int64[np.ndarray, " v"]:
        return (np.arange(self.vocabulary) < 256).astype(np.int64)

    def to_config(self) -> dict[str, Any]:
        return {"kind": "bytes"}
