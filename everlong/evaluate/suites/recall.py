"""Multi-query associative recall: many keys with values, then several of the keys, each to be answered.

Source: Arora et al. 2023 (arXiv 2312.04927), `multiquery_ar.py` of zoology. `Recall` asks in text, for models of any
codec, and fills the length with pairs, so that longer means more to remember. `AssociativeRecall` is the published
task on token ids; its gaps between a pair and its query follow the power law a g**(a - 1).

Legend: B rows, T positions, K pairs.
"""

from __future__ import annotations

import numpy as np

from everlong.core.config import check
from everlong.core.errors import ContextError
from everlong.data import IGNORED
from everlong.evaluate.suites.example import Example, Suite
from everlong.evaluate.suites.tasks import Drawn, Task
from everlong.evaluate.suites.text import words


class Recall(Suite):
    """Keys are invented words, values numbers of two digits."""

    queries: int = 4
    """Pairs that are asked for, in an order of their own; the shortest example has no others."""

    def __post_init__(self) -> None:
        check(self.queries >= 1, "recall.queries", self.queries, "must be at least 1")

    @property
    def chance(self) -> float:
        return 1 / 90

    def build(self, generator: np.random.Generator, filler: int, depth: float) -> Example:
        count = self.queries + filler
        keys, values = words(generator, count), generator.integers(10, 100, size=count).tolist()
        asked = generator.permutation(count)[: self.queries].tolist()
        context = "".join(f"{key} {value}, " for key, value in zip(keys, values, strict=True))
        parts = [context + "\nAgain:"]
        for i in asked:
            parts[-1] += f" {keys[i]}"
            parts += [f" {values[i]},", ""]
        return Example(tuple(part.encode() for part in parts[:-1]), (str(values[asked[-1]]),), r"\d+")


class AssociativeRecall(Task):
    """Keys are ids from 1, values from the upper half of the vocabulary; 0 stands everywhere else, as in the paper's
    own settings."""

    pairs: int
    """K; four times as many positions are needed."""
    vocabulary: int = 8192
    power: float = 0.01
    """The exponent a; the smaller, the sooner pairs are asked for."""

    def __post_init__(self) -> None:
        check(self.pairs >= 1, "recall.pairs", self.pairs, "must be at least 1")
        most = f"must leave {self.pairs} keys in its lower half"
        check(self.vocabulary // 2 - 1 >= self.pairs, "recall.vocabulary", self.vocabulary, most)
        check(self.power > 0, "recall.power", self.power, "must be above 0")

    @property
    def chance(self) -> float:
        return 1 / (self.vocabulary - self.vocabulary // 2)

    def draw(self, generator: np.random.Generator, rows: int, window: int) -> Drawn:
        K = self.pairs
        if window < 4 * K:
            raise ContextError("window", window, f"is too short for {K} pairs: the smallest is {4 * K}")
        half = self.vocabulary // 2
        ids_BT = np.zeros((rows, window), dtype=np.int64)
        targets_BT = np.full((rows, window), IGNORED)
        gaps = np.arange((window - 2 * K) // 2)
        weights = self.power * (gaps + 1.0) ** (self.power - 1)
        for ids_T, targets_T in zip(ids_BT, targets_BT, strict=True):
            keys_K = 1 + generator.choice(half - 1, K, replace=False)
            values_K = half + generator.choice(self.vocabulary - half, K, replace=False)
            ids_T[: 2 * K] = np.stack([keys_K, values_K], axis=1).ravel()
            places_K = 2 * K + 2 * generator.choice(gaps, K, replace=False, p=weights / weights.sum())
            ids_T[places_K], targets_T[places_K] = keys_K, values_K
        return Drawn(ids_BT, targets_BT)
