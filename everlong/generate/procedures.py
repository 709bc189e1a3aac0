"""Ways to score documents that spend more on each token (MEGABYTE, arXiv 2305.07185, sec. 2.3.3 and table 10).

Legend: T tokens of a document without BOS, P positions of a patch, W tokens of a window, S its stride.

    sliding    every token is foretold from at least W - S tokens before it, in a model that can take only W: windows
               begin every S tokens, and of each but the first the last S tokens count. Costs W/S passes.
    strided    where a model foretells the second half of each patch worse than the first, a second pass begins P/2
               tokens later, and of both only the first half of each patch counts. Costs two passes.

Each takes a way to score documents and is one, so that they compose: `sliding(strided(plain, 8), window=8192,
stride=4096)`. Every token is scored once, by a distribution made from tokens before it, so the bits are those of a
code; but since tokens are read several times, such a code is measured only: `everlong compress` uses the plain way.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from everlong.core.config import check

Scorer = Callable[[Iterable[np.ndarray]], Iterator[np.ndarray]]
"""From documents, ids that begin with BOS, to the bits of each token but the first: as `score_documents` does once its
model is given."""


def sliding(scorer: Scorer, *, window: int, stride: int) -> Scorer:
    """Scores documents in overlapping windows, each read from BOS on.

    Args:
        window: W, tokens that a window scores at most; the model's `context_limit` is the most that it can take.
        stride: S, tokens from one window to the next; of each window's tokens but the first's, the last S count.

    Raises:
        ConfigError: the stride is not between 1 and the window.
    """
    check(1 <= stride <= window, "stride", stride, f"must lie between 1 and the window, {window}")

    def cut(ids_T: np.ndarray) -> list[np.ndarray]:
        text = ids_T[1:]
        begins = range(0, max(1, len(text) - window + stride), stride)
        return [np.concatenate([ids_T[:1], text[begin : begin + window]]) for begin in begins]

    def joined(bits: list[np.ndarray], length: int) -> np.ndarray:
        found, done = [], 0
        for i, piece in enumerate(bits):
            end = i * stride + len(piece)
            found.append(piece[len(piece) - (end - done) :])
            done = end
        return np.concatenate(found)

    return _through(scorer, cut, joined)


def strided(scorer: Scorer, patch: int) -> Scorer:
    """Scores each token in the first half of a patch, in one of two passes.

    Args:
        patch: P, of a model whose patches are counted from a document's first token behind BOS.

    Raises:
        ConfigError: the patch is odd, or below 2.
    """
    check(patch >= 2 and patch % 2 == 0, "patch", patch, "must be even, and at least 2: a patch has two halves")
    half = patch // 2

    def twice(ids_T: np.ndarray) -> list[np.ndarray]:
        return [ids_T, np.concatenate([ids_T[:1], ids_T[1 + half :]])]

    def chosen(bits: list[np.ndarray], length: int) -> np.ndarray:
        whole_T, later_T = bits
        second_T = np.arange(length) % patch >= half
        found_T = whole_T.copy()
        found_T[half:] = np.where(second_T[half:], later_T, whole_T[half:])
        return found_T

    return _through(scorer, twice, chosen)


def _through(
    scorer: Scorer,
    cut: Callable[[np.ndarray], list[np.ndarray]],
    joined: Callable[[list[np.ndarray], int], np.ndarray],
) -> Scorer:
    """Scores what documents are cut into, and puts the bits of each document together."""

    def scored(documents: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        waiting: deque[tuple[int, int]] = deque()  # pieces and tokens of each document that is on its way

        def pieces() -> Iterator[np.ndarray]:
            for ids in documents:
                ids_T = np.asarray(ids, dtype=np.int64)
                parts = cut(ids_T)
                waiting.append((len(parts), len(ids_T) - 1))
                yield from parts

        bits = iter(scorer(pieces()))
        for first in bits:
            count, length = waiting.popleft()
            yield joined([first, *(next(bits) for _ in range(count - 1))], length)

    return scored
