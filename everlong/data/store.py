"""A token store: documents as one stream of ids in a memory-mapped file.

A document is stored as `BOS ids EOS`, and the stream is all of them one after the other.

    tokens.bin        the ids, in the smallest unsigned type that holds the vocabulary (little-endian)
    offsets.npy       where each document begins, and where the last ends
    byte_counts.npy   true bytes of each document
    documents.json    names and content hashes

Legend: N tokens in the stream, D documents, T tokens of one document.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType

import numpy as np
from jaxtyping import Int64, UInt

from everlong.data.codec import Codec, blocks


@dataclass(frozen=True, eq=False)
class TokenStore:
    """Documents as token ids, read-only. `StoreWriter` writes one; `TokenStore.open` opens it."""

    tokens: UInt[np.ndarray, " n"]
    """The stream; a memory map, so only what is read is in memory."""
    byte_counts: Int64[np.ndarray, " d"]
    """True bytes of each document, which bits per byte is counted by."""
    offsets: Int64[np.ndarray, " d+1"]
    """Document i is `tokens[offsets[i] : offsets[i + 1]]`."""
    names: tuple[str, ...]
    hashes: tuple[str, ...]
    """SHA-256 of each document's bytes."""
    codec: Codec

    @classmethod
    def open(cls, folder: Path, codec: Codec) -> TokenStore:
        """Opens what a `StoreWriter` wrote.

        Raises:
            OSError, EOFError, ValueError, LookupError, TypeError: the files are absent, damaged, or not of one store.
        """
        tokens = np.memmap(folder / "tokens.bin", dtype=_dtype(codec), mode="r")
        byte_counts, offsets = np.load(folder / "byte_counts.npy"), np.load(folder / "offsets.npy")
        documents = json.loads((folder / "documents.json").read_text(encoding="utf-8"))
        names, hashes = tuple(documents["names"]), tuple(documents["hashes"])
        counts = {len(names), len(hashes), len(byte_counts), len(offsets) - 1}
        if len(counts) > 1 or offsets[-1] != len(tokens):
            raise ValueError(f"{folder}: the files of this store do not fit together")
        return cls(tokens, byte_counts, offsets, names, hashes, codec)

    def __len__(self) -> int:
        """D, the number of documents."""
        return len(self.names)

    def document(self, i: int) -> UInt[np.ndarray, " t"]:
        """Ids of document i, BOS and EOS included: a view, which cannot be written to."""
        i = range(len(self))[i]
        return np.asarray(self.tokens[self.offsets[i] : self.offsets[i + 1]])

    @property
    def total_bytes(self) -> int:
        """True bytes of all documents."""
        return int(self.byte_counts.sum())

    @property
    def bytes_per_token(self) -> float:
        """True bytes that a token stands for on average, BOS and EOS counted as tokens."""
        return self.total_bytes / len(self.tokens)

    @cached_property
    def fingerprint(self) -> str:
        """A hash that two stores share exactly if they hold the same stream: codec, contents, order."""
        return hashlib.sha256(json.dumps([self.codec.fingerprint(), self.hashes]).encode()).hexdigest()


def documents(store: TokenStore) -> Iterator[tuple[str, Int64[np.ndarray, " t"], int]]:
    """Every document in order: its name, a copy of its ids (BOS and EOS included), its true bytes."""
    for i, name in enumerate(store.names):
        yield name, store.document(i).astype(np.int64), int(store.byte_counts[i])


class StoreWriter:
    """Writes a store, one document after the other, in the memory that one document and a block take.

    A context manager: what it wrote is complete when the context ends without an error.
    """

    def __init__(self, folder: Path, codec: Codec) -> None:
        folder.mkdir(parents=True)
        self.folder, self.codec = folder, codec
        self.names: list[str] = []
        self.hashes: list[str] = []
        self.byte_counts: list[int] = []
        self.offsets = [0]
        self._tokens = open(folder / "tokens.bin", "wb")  # noqa: SIM115  # closed when the context ends

    def add(self, name: str, data: bytes, advance: Callable[[float], None] = lambda _: None) -> None:
        """Appends a document; `advance` is told the share of it that each block was."""
        written = self._write(np.asarray([self.codec.bos]))
        for block in blocks(data):
            written += self._write(self.codec.encode(block))
            advance(len(block) / len(data))
        written += self._write(np.asarray([self.codec.eos]))
        self.names.append(name)
        self.hashes.append(content_hash(data))
        self.byte_counts.append(len(data))
        self.offsets.append(self.offsets[-1] + written)

    def __enter__(self) -> StoreWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._tokens:
            self._tokens.flush()
        if kind is None:
            np.save(self.folder / "offsets.npy", np.asarray(self.offsets, dtype=np.int64))
            np.save(self.folder / "byte_counts.npy", np.asarray(self.byte_counts, dtype=np.int64))
            told = json.dumps({"names": self.names, "hashes": self.hashes})
            (self.folder / "documents.json").write_text(told)

    def _write(self, ids_T: Int64[np.ndarray, " t"]) -> int:
        self._tokens.write(ids_T.astype(_dtype(self.codec)).data)
        return len(ids_T)


def content_hash(data: bytes) -> str:
    """What tells documents apart: SHA-256, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def _dtype(codec: Codec) -> np.dtype:
    return np.dtype("<u2" if codec.vocabulary <= 1 << 16 else "<u4")
