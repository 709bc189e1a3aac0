"""The prompt-length curve: bits per byte of the same ends of documents, after prompts of growing length.

Every document that is long enough gives the same tokens at every point of the curve, and only what stands before them
grows; so the points differ by context alone. A model that uses its context has a falling curve.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from everlong.core.config import check
from everlong.core.errors import DataError
from everlong.data import TokenStore
from everlong.data.progress import progress
from everlong.evaluate.bits_per_byte import ratio
from everlong.evaluate.suites.measured import check_length
from everlong.generate import score_documents
from everlong.generate.stream import check_codec
from everlong.model.language_model import LanguageModel

SUFFIX = 256
"""Tokens that are scored of each document."""


@dataclass(frozen=True)
class PromptLength:
    """One point of the curve."""

    length: int
    """Tokens between BOS and those that are scored."""
    documents: int
    bytes: int
    """True bytes that are scored."""
    bits_per_byte: float
    standard_error: float | None
    """Over documents; `None` for a single one. Points share their documents, so their differences are surer."""


def prompt_length(
    model: LanguageModel, store: TokenStore, lengths: Sequence[int], *, count: int = 64, suffix: int = SUFFIX
) -> list[PromptLength]:
    """Measures the curve on the first `count` documents that are long enough for its longest prompt.

    Raises:
        ConfigError: a number is out of range, or the codec is not the model's.
        ContextError: prompt and suffix are beyond the model's `context_limit`.
        DataError: no document is long enough.
        EverlongError: the model's numbers are not finite.
    """
    check(len(lengths) > 0 and min(lengths) >= 0, "lengths", tuple(lengths), "must be 0 or more each, and at least one")
    check(count >= 1, "examples", count, "must be at least 1")
    check(suffix >= 1, "suffix", suffix, "must be at least 1")
    check_codec(model, store.codec)
    check_length(model, 1 + max(lengths) + suffix)
    ends = _ends(store, max(lengths) + suffix, count)
    bytes_D = np.array([store.codec.byte_lengths()[ids_T[-suffix:]].sum() for ids_T in ends])
    points = []
    with progress("prompt lengths", len(ends) * sum(length + suffix for length in lengths)) as advance:
        for length in lengths:
            cut = [np.concatenate([[store.codec.bos], ids_T[-length - suffix :]]) for ids_T in ends]
            bits_D = np.array([bits_T[-suffix:].sum() for bits_T in score_documents(model, cut)])
            points.append(PromptLength(length, len(ends), int(bytes_D.sum()), *ratio(bits_D, bytes_D)))
            advance(float(len(ends) * (length + suffix)))
    return points


def _ends(store: TokenStore, size: int, count: int) -> list[np.ndarray]:
    """The last tokens of documents, without BOS and EOS."""
    sizes = np.diff(store.offsets) - 2
    long = np.flatnonzero(sizes >= size)[:count]
    if not len(long):
        remedy = f"is the longest document; {size} tokens are needed: give longer ones, or shorter lengths"
        raise DataError("documents", f"{int(sizes.max(initial=0))} tokens", remedy)
    return [store.document(i)[1:-1][-size:].astype(np.int64) for i in long.tolist()]
