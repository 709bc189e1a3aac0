"""Lossless compression: a model predicts, and an arithmetic coder writes down what it could not.

Legend: B lanes (batch rows), N tokens of all lanes, V symbols.

A token that the model gives probability p costs -log2 p bits, so a file shrinks to the bits that `score` counts.
A decoder whose model has read the same tokens has the same probabilities, if they are the same to the last bit. So
both directions are one loop, token by token: the same calls, in the same shapes, on as many threads. Still, another
kind of device, processor or version of torch may round differently; a file is certain to open only where it was made.

Lanes are equal stretches of the tokens, read side by side as rows of one batch. A step takes every lane one token
further, and puts their symbols into one message. Symbols are the ids that stand for bytes; no others can occur.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from jaxtyping import Int64

from everlong.core.config import check
from everlong.core.errors import CompressionError
from everlong.data.codec import Codec
from everlong.generate.arithmetic_coding import Decoder, Encoder, cumulative, quantise
from everlong.generate.container import MOST_LANES, Header, digest, numerics, pack, short_fingerprint, unpack
from everlong.generate.stream import Stream, check_codec, finite
from everlong.model.language_model import LanguageModel

LANE = 16_384
"""Tokens of a lane, by default."""

_MAJOR, _MINOR, *_ = torch.__version__.split(".")
_TORCH = int(_MAJOR), int(_MINOR)

Progress = Callable[[int], None]
"""Is told how many bytes of the original are done."""


def default_lanes(tokens: int) -> int:
    """One lane for every 16,384 tokens, from 1 to 16.

    Every lane begins without a past and pays for it, while a batch of 16 is many times as fast as one row: so few
    lanes make small files, and many are quick.
    """
    return min(16, max(1, tokens // LANE))


def compress(
    model: LanguageModel,
    codec: Codec,
    data: bytes,
    fingerprint: str,
    *,
    lanes: int | None = None,
    context: int | None = None,
    progress: Progress | None = None,
) -> bytes:
    """Compresses any bytes.

    Args:
        fingerprint: 16 or more hexadecimal digits that identify the model and its codec, such as `model_fingerprint`;
            the file holds the first 16, and `decompress` refuses others.
        lanes: stretches that are read side by side. `None`: `default_lanes`.
        context: tokens after which every lane begins anew. `None`: the model's `context_limit`, or never.
        progress: called after every step.

    Returns:
        A file for `decompress`.

    Raises:
        ConfigError: `lanes` or `context` is out of range, the fingerprint is no such number, the codec is not the
            model's, or its device or dtype is none that the file can name.
        CompressionError: the codec is not lossless.
        EverlongError: the model's numbers are not finite.
    """
    check(lanes is None or 1 <= lanes <= MOST_LANES, "lanes", lanes, f"must be from 1 to {MOST_LANES}")
    check_codec(model, codec)
    ids_N = codec.encode(data)
    if codec.decode(ids_N) != data:
        raise CompressionError("codec", type(codec).__name__, "does not give back what it encodes; use ByteCodec")
    header = Header(
        digest=digest(data),
        fingerprint=short_fingerprint(fingerprint),
        numerics=numerics(next(model.parameters())),
        torch=_TORCH,
        size=len(data),
        tokens=len(ids_N),
        lanes=min(lanes or default_lanes(len(ids_N)), max(1, len(ids_N))),
        context=Stream(model, codec.bos, context=context).context or 0,
        threads=torch.get_num_threads(),
    )
    return pack(header, _encoded(model, codec, header, _interleaved(ids_N, header.lanes), progress))


def decompress(
    model: LanguageModel, codec: Codec, blob: bytes, fingerprint: str, *, progress: Progress | None = None
) -> bytes:
    """Restores what `compress` was given.

    Raises:
        CompressionError: the file is damaged, is of another model, or numbers came out differently here.
        ConfigError: the codec is not the model's, or the fingerprint is no such number.
        EverlongError: the model's numbers are not finite.
    """
    check_codec(model, codec)
    header, message = unpack(blob)
    for field, ours, theirs, remedy in (
        ("fingerprint", short_fingerprint(fingerprint), header.fingerprint, "open it with the model that made it"),
        ("numerics", numerics(next(model.parameters())), header.numerics, "move the model there"),
    ):
        if ours != theirs:
            raise CompressionError(f"model's {field}", ours, f"the file was made with {theirs!r}: {remedy}")
    data = codec.decode(_deinterleaved(_decoded(model, codec, header, message, progress), header.lanes))
    if len(data) != header.size or digest(data) != header.digest:
        remedy = (
            f"the file holds {header.digest.hex()}, made with torch {header.torch}, here is {_TORCH}: this version or "
            "processor rounds differently, or the fingerprint does not tell models apart"
        )
        raise CompressionError("digest of the result", digest(data).hex(), remedy)
    return data


def _encoded(model: LanguageModel, codec: Codec, header: Header, ids_N: np.ndarray, progress: Progress | None) -> bytes:
    encoder, symbols_N = Encoder(), np.searchsorted(_alphabet(codec), ids_N)

    def encode(first: int, table_BV: np.ndarray) -> np.ndarray:
        symbols_B = symbols_N[first : first + len(table_BV)]
        rows = np.arange(len(table_BV))
        starts, ends = table_BV[rows, symbols_B], table_BV[rows, symbols_B + 1]
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
            encoder.encode(start, end - start)
        return symbols_B

    _run(model, codec, header, encode, progress)
    return encoder.finish()


def _decoded(
    model: LanguageModel, codec: Codec, header: Header, message: bytes, progress: Progress | None
) -> np.ndarray:
    decoder = Decoder(message)

    def decode(first: int, table_BV: np.ndarray) -> np.ndarray:
        return np.array([_next_symbol(decoder, table_V) for table_V in table_BV])

    return _run(model, codec, header, decode, progress)


def _next_symbol(decoder: Decoder, table_V: np.ndarray) -> int:
    symbol = int(table_V.searchsorted(decoder.target(), side="right")) - 1
    start, end = table_V[symbol : symbol + 2].tolist()
    decoder.consume(start, end - start)
    return symbol


def _run(
    model: LanguageModel,
    codec: Codec,
    header: Header,
    transcode: Callable[[int, np.ndarray], np.ndarray],
    progress: Progress | None,
) -> Int64[np.ndarray, " n"]:
    """The loop of both directions.

    Args:
        transcode: codes the next symbol of every lane, and tells which. It is given the place that the first lane's
            has among all, and the cumulative frequencies (B, V + 1).

    Returns:
        The ids of all tokens, interleaved.
    """
    stream = Stream(model, codec.bos, rows=header.lanes, context=header.context or None)
    alphabet_V, length_V = _alphabet(codec), codec.byte_lengths()
    ids_N, done = array("q"), 0  # it grows with what is decoded: a header's word is not enough to allocate by
    with _threads(header.threads):
        for first in range(0, header.tokens, header.lanes):
            logits_BV = finite(stream.predict()).cpu().double()[:, alphabet_V]
            table_BV = cumulative(quantise(torch.softmax(logits_BV, dim=-1).numpy()))
            ids_B = alphabet_V[transcode(first, table_BV[: header.tokens - first])]
            stream.accept(torch.from_numpy(ids_B))
            ids_N.extend(ids_B.tolist())
            done += int(length_V[ids_B].sum())
            if progress:
                progress(done)
    return np.array(ids_N, dtype=np.int64)


def _alphabet(codec: Codec) -> Int64[np.ndarray, " v"]:
    """The ids that stand for bytes, in order."""
    return np.flatnonzero(codec.byte_lengths())


def _interleaved(ids_N: np.ndarray, lanes: int) -> np.ndarray:
    """Equal stretches side by side: first tokens of all lanes, then second ones; the first lanes may be one longer."""
    mixed_N = np.empty_like(ids_N)
    for lane, stretch in enumerate(np.array_split(ids_N, lanes)):
        mixed_N[lane::lanes] = stretch
    return mixed_N


def _deinterleaved(mixed_N: np.ndarray, lanes: int) -> np.ndarray:
    return np.concatenate([mixed_N[lane::lanes] for lane in range(lanes)])


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
