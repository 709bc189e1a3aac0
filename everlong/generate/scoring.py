"""How surprised a model is by data: -log2 p of every token, given those before it.

Legend: B batch rows, T tokens, V vocabulary.

The bits are those of the document's own tokens under the model's full distribution; that the document ends after them
is not scored. Data are read and scored in pieces, so memory is that of one piece and of the model's state.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from io import BufferedIOBase, BytesIO
from itertools import islice
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64, Int64, Integer
from torch import Tensor

from everlong.core.config import check
from everlong.core.errors import DataError
from everlong.data.codec import BLOCK, Codec
from everlong.generate.stream import Stream, check_codec, finite
from everlong.model.language_model import LanguageModel

Source = bytes | str | Path | BufferedIOBase
"""Bytes, the path of a file, or an open binary file."""

SURPRISAL = np.dtype([("offset", "<i8"), ("length", "<i4"), ("id", "<i4"), ("bits", "<f8")])
"""One scored token: the place of its first byte, how many bytes it stands for, its id, its surprisal in bits."""


@dataclass
class Totals:
    """Running sums over scored pieces."""

    tokens: int = 0
    bytes: int = 0
    bits: float = 0.0

    def add(self, piece: np.ndarray) -> None:
        """Counts a piece of dtype `SURPRISAL`."""
        self.tokens += len(piece)
        self.bytes += int(piece["length"].sum())
        self.bits += float(piece["bits"].sum())

    @property
    def bits_per_byte(self) -> float:
        """NaN of no bytes."""
        return self.bits / self.bytes if self.bytes else math.nan


def score(
    model: LanguageModel,
    codec: Codec,
    data: Source,
    *,
    chunk: int = 2048,
    context: int | None = None,
) -> Iterator[np.ndarray]:
    """Scores data of any length as one document.

    Args:
        data: bytes, an open binary file, or the path of a file, whose bytes are scored as they stand.
        chunk: most tokens of one call; it changes speed and memory, not the scores.
        context: tokens after which the model begins anew, without a past. `None`: its `context_limit`, or never.

    Returns:
        Arrays (T,) of dtype `SURPRISAL`, in order.

    Raises:
        ConfigError: `chunk` or `context` is out of range, or the codec is not the model's.
        DataError: the file cannot be read.
        EverlongError: the model's numbers are not finite.
    """
    check(chunk >= 1, "chunk", chunk, "must be at least 1 token")
    check_codec(model, codec)
    return _pieces(Stream(model, codec.bos, context=context), codec, data, chunk)


def score_documents(
    model: LanguageModel,
    documents: Iterable[Integer[np.ndarray, " _"] | Sequence[int]],
    *,
    batch: int = 16,
    chunk: int = 2048,
    context: int | None = None,
) -> Iterator[Float64[np.ndarray, " _"]]:
    """Scores many documents at once.

    Args:
        documents: ids of each, beginning with BOS.
        batch: rows of a call. Documents of like length share one; `16 * batch` of them are looked at together.
        chunk: most positions of one call.
        context: as in `score`.

    Returns:
        Of every document, in the order given: bits of each token but the first.

    Raises:
        ConfigError: `batch`, `chunk` or `context` is out of range.
        DataError: documents do not all begin with the same id.
        EverlongError: the model's numbers are not finite.
    """
    check(batch >= 1, "batch", batch, "must be at least 1 row")
    check(chunk >= 1, "chunk", chunk, "must be at least 1 position")
    waiting = iter(documents)
    while group := [np.asarray(ids, dtype=np.int64) for ids in islice(waiting, 16 * batch)]:
        begin = {int(ids[0]) if len(ids) else None for ids in group}
        if len(begin) > 1 or None in begin:
            raise DataError("documents", f"first ids {begin}", "every document must begin with the same id, BOS")
        order = sorted(range(len(group)), key=lambda i: -len(group[i]))
        bits: dict[int, np.ndarray] = {}
        for rows in (order[start : start + batch] for start in range(0, len(order), batch)):
            stream = Stream(model, int(group[rows[0]][0]), rows=len(rows), context=context)
            bits |= zip(rows, _score_rows(stream, [group[i][1:] for i in rows], chunk), strict=True)
        yield from (bits[i] for i in range(len(group)))


def surprisal(logits_BTV: Float[Tensor, "b t v"], ids_BT: Int64[Tensor, "b t"]) -> Float64[np.ndarray, "b t"]:
    """Bits of each token under the logits that predict it.

    Raises:
        EverlongError: the logits are not finite.
    """
    logits_NV = logits_BTV.flatten(0, 1).to(torch.promote_types(logits_BTV.dtype, torch.float32))
    nats_N = F.cross_entropy(logits_NV, ids_BT.flatten().to(logits_NV.device), reduction="none")
    return finite(nats_N).view(ids_BT.shape).cpu().double().numpy() / math.log(2)


def _pieces(stream: Stream, codec: Codec, data: Source, chunk: int) -> Iterator[np.ndarray]:
    offset, lengths_V = 0, codec.byte_lengths()
    with _opened(data) as file:
        for ids_N in map(codec.encode, _blocks(file)):
            start = 0
            while start < len(ids_N):
                ids_1T = torch.from_numpy(ids_N[None, start : start + min(chunk, stream.room)])
                piece = np.empty(ids_1T.shape[1], SURPRISAL)
                piece["id"], piece["length"] = ids_1T[0], lengths_V[ids_1T[0]]
                piece["offset"] = offset + piece["length"].cumsum() - piece["length"]
                piece["bits"] = surprisal(stream.follow(ids_1T), ids_1T)[0]
                yield piece
                start, offset = start + len(piece), offset + int(piece["length"].sum())


def _score_rows(stream: Stream, rows: list[np.ndarray], chunk: int) -> list[np.ndarray]:
    """Bits of every row; the longest row comes first.

    No row needs to be marked as ragged: what fills a row behind its end comes after all that is scored, and the row
    leaves the batch before the next call.
    """
    bits: list[list[np.ndarray]] = [[] for _ in rows]
    start, filler = 0, int(rows[0][0]) if len(rows[0]) else 0
    while alive := sum(len(row) > start for row in rows):
        stream.keep_first(alive)
        size = min(chunk, stream.room, len(rows[0]) - start)
        ids_BT = torch.full((alive, size), filler)
        for ids_T, row in zip(ids_BT, rows, strict=False):
            part = torch.from_numpy(row[start : start + size])
            ids_T[: len(part)] = part
        for i, bits_T in enumerate(surprisal(stream.follow(ids_BT), ids_BT)):
            bits[i].append(bits_T[: len(rows[i]) - start])
        start += size
    return [np.concatenate([np.empty(0), *parts]) for parts in bits]


def _opened(data: Source) -> AbstractContextManager[BufferedIOBase]:
    if isinstance(data, bytes):
        return BytesIO(data)
    if not isinstance(data, str | Path):
        return nullcontext(data)
    try:
        return Path(data).open("rb")
    except OSError as error:
        remedy = f"cannot be read ({error.strerror}): check that it is a file and that you may read it"
        raise DataError("data", str(data), remedy) from error


def _blocks(file: BufferedIOBase) -> Iterator[bytes]:
    """What `everlong.data.codec.blocks` makes of the whole content, without holding it."""
    data = b""
    while fresh := file.read(BLOCK + 1 - len(data)):
        data += fresh
        if len(data) > BLOCK:  # so it goes on after this block
            stop = data.rfind(b"\n", 0, BLOCK) + 1 or BLOCK
            yield data[:stop]
            data = data[stop:]
    if data:
        yield data
