"""Bits per byte, how sure it is, and how it falls with context.

Legend: D documents, K ranges of positions, T tokens of one document.

Document d costs b_d bits and has n_d bytes. Bits per byte are a ratio of two sums, R = sum b_d / sum n_d, and
documents are what was sampled. So the standard error is that of a ratio estimator (Cochran 1977, Sampling
Techniques, 3rd edition, section 2.11; the population is taken for infinite),

    SE(R)^2 = D / (D - 1) * sum_d (b_d - R n_d)^2 / (sum_d n_d)^2.

It counts the bytes of a document as what they are, not independent of each other; dividing by the square root of
the number of bytes would claim far too much.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Float, Int64

from everlong.core.errors import DataError
from everlong.data import TokenStore, documents
from everlong.data.progress import progress
from everlong.generate import Scorer, score_documents
from everlong.generate.stream import check_codec
from everlong.model.language_model import LanguageModel


@dataclass(frozen=True)
class ByPosition:
    """Bits per byte of the tokens in each range of positions; the ranges hold every token exactly once."""

    ranges: tuple[tuple[int, int], ...]
    """Positions `first <= p < end`; a token's position is how many tokens of its document stand before it."""
    bytes: tuple[int, ...]
    documents: tuple[int, ...]
    """How many documents reach into each range."""
    bits_per_byte: tuple[float, ...]
    standard_error: tuple[float | None, ...]
    """Over documents; `None` where there is one only."""


@dataclass(frozen=True)
class BitsPerByte:
    """What a model needs to tell documents, each read from its own beginning."""

    bits_per_byte: float
    standard_error: float | None
    """Over documents; `None` for a single one."""
    documents: int
    bytes: int
    bits: float
    by_position: ByPosition

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self)


def ratio(bits_D: Float[np.ndarray, " d"], bytes_D: Int64[np.ndarray, " d"]) -> tuple[float, float | None]:
    """Bits per byte of documents, and its standard error (see the top of this file); `None` for one document."""
    total, D = float(bytes_D.sum()), len(bits_D)
    estimate = float(bits_D.sum()) / total
    if D < 2:
        return estimate, None
    residual_D = bits_D - estimate * bytes_D
    return estimate, math.sqrt(D / (D - 1) * float(residual_D @ residual_D)) / total


def evaluate(
    model: LanguageModel,
    store: TokenStore,
    *,
    batch: int = 16,
    chunk: int = 1024,
    context: int | None = None,
    procedure: Callable[[Scorer], Scorer] | None = None,
) -> BitsPerByte:
    """Scores every document of a store from its beginning, the end of the document included.

    Args:
        model: a model of the store's codec, in evaluation mode.
        batch: documents that are read side by side; it changes speed and memory, not the result.
        chunk: most tokens of a document that one call reads; likewise.
        context: tokens after which the model begins anew, without a past. `None`: its `context_limit`, or never.
        procedure: makes another way to score out of the plain one, such as `lambda plain: strided(plain, patch=8)`; see
            `everlong.generate.procedures`. `None`: every token is read once.

    Raises:
        ConfigError: `batch`, `chunk` or `context` is out of range, or the codec is not the model's.
        EverlongError: the model's numbers are not finite.
    """
    check_codec(model, store.codec)
    byte_lengths_V = store.codec.byte_lengths()
    ids = (ids_T for _, ids_T, _ in documents(store))
    with progress("scoring", store.total_bytes) as advance:
        heard = model.register_forward_hook(lambda _, args, __: advance(args[0].numel() * store.bytes_per_token))
        try:
            plain = partial(score_documents, model, batch=batch, chunk=chunk, context=context)
            scored = (plain if procedure is None else procedure(plain))(ids)
            lengths = (byte_lengths_V[ids_T[1:]] for _, ids_T, _ in documents(store))
            return measure(zip(scored, lengths, strict=True))
        finally:
            heard.remove()


def measure(scored: Iterable[tuple[np.ndarray, np.ndarray]]) -> BitsPerByte:
    """Sums up scored documents.

    Args:
        scored: for every document, surprisal in bits and true bytes of its tokens, arrays of (T,). A token without
            bytes (the end of the document) counts at the position of the last one with bytes.

    Raises:
        DataError: there is no document, or one without bytes.
    """
    rows = [_by_range(*document) for document in scored]
    if not rows:
        raise DataError("documents", 0, "there is nothing to measure: give at least one document")
    K = max(len(bits_K) for bits_K, _ in rows)
    bits_DK, bytes_DK = (np.array([np.pad(row[i], (0, K - len(row[i]))) for row in rows]) for i in (0, 1))
    bits_D, bytes_D = bits_DK.sum(1), bytes_DK.sum(1)
    estimate, error = ratio(bits_D, bytes_D)
    positions = _by_position(bits_DK, bytes_DK)
    return BitsPerByte(estimate, error, len(rows), int(bytes_D.sum()), float(bits_D.sum()), positions)


def ranges(longest: int) -> tuple[tuple[int, int], ...]:
    """Ranges that cover the positions 0 .. longest - 1: each of the first two alone, then doubling."""
    ends = [0, 1]
    while ends[-1] < longest:
        ends.append(2 * ends[-1])
    return tuple(pairwise(ends))


def _by_range(bits_T: np.ndarray, bytes_T: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bits and bytes of one document in each range of positions."""
    real = np.flatnonzero(bytes_T)
    if not len(real):
        raise DataError("document", f"{len(bytes_T)} tokens", "holds no bytes: leave it out")
    position_T = np.minimum(np.arange(len(bits_T)), real[-1])
    firsts_K = [first for first, _ in ranges(len(bits_T))]
    range_T = np.searchsorted(firsts_K, position_T, side="right") - 1
    return np.bincount(range_T, bits_T), np.bincount(range_T, bytes_T).astype(np.int64)


def _by_position(bits_DK: np.ndarray, bytes_DK: np.ndarray) -> ByPosition:
    within = [bytes_DK[:, k] > 0 for k in range(bytes_DK.shape[1])]
    found = [ratio(bits_DK[rows, k], bytes_DK[rows, k]) for k, rows in enumerate(within)]
    return ByPosition(
        ranges=ranges(2 ** (len(within) - 1)),
        bytes=tuple(bytes_DK.sum(0).tolist()),
        documents=tuple(int(rows.sum()) for rows in within),
        bits_per_byte=tuple(estimate for estimate, _ in found),
        standard_error=tuple(error for _, error in found),
    )
