"""Common words and frequent words: which words occur most often in a long list, or in coded text?

Source: RULER (Hsieh et al. 2024, arXiv 2404.06654), CWE and FWE, with invented words, and without CWE's solved
example. In frequent words, counts follow a zeta distribution, and the most frequent word of all is written as dots,
which are noise.
"""

from __future__ import annotations

import numpy as np

from everlong.core.config import check
from everlong.evaluate.suites.example import Example, Suite
from everlong.evaluate.suites.text import WORDS, words

COMMON = """Below is a numbered list of words. In these words, some appear more often than others. Memorize the ones \
that appear most often.
{context}
Question: What are the {count} most common words in the above list? Answer: The top {count} words that appear most \
often in the list are:"""
FREQUENT = """Read the following coded text and track the frequency of each coded word. Find the three most \
frequently appeared coded words. {context}
Question: Do not provide any explanation. Please ignore the dots '....'. What are the three most frequently appeared \
words in the above coded text? Answer: According to the coded text above, the three most frequently appeared words \
are:"""

_FEWEST = 80
"""Coded words of the shortest text: from here on, ranks 2 to 5 have different counts."""


class CommonWords(Suite):
    """Some words stand `often` times in the list, the others `rarely`; RULER takes 30 and 3, or 6 and 1 if short."""

    common: int = 10
    often: int = 6
    rarely: int = 1

    def __post_init__(self) -> None:
        check(self.common >= 1, "common_words.common", self.common, "must be at least 1")
        fits = 1 <= self.rarely < self.often
        check(fits, "common_words.rarely", self.rarely, f"must be at least 1, and below often, {self.often}")

    @property
    def chance(self) -> float:
        return float(WORDS) ** -self.common

    def build(self, generator: np.random.Generator, filler: int, depth: float) -> Example:
        known = words(generator, self.common + filler)
        common = known[: self.common]
        listed = generator.permutation(common * self.often + known[self.common :] * self.rarely)
        context = " ".join(f"{i}. {word}" for i, word in enumerate(listed, 1))
        text = COMMON.format(context=context, count=self.common)
        return Example((text.encode(), f" {' '.join(common)}\n".encode()), tuple(common), "[a-z]+")


class FrequentWords(Suite):
    """The answer is ranks 2 to 4; rank k stands k**-2 / zeta(2) of the time, as published."""

    @property
    def chance(self) -> float:
        return float(WORDS) ** -3

    def build(self, generator: np.random.Generator, filler: int, depth: float) -> Example:
        total = _FEWEST + filler
        counts = _zeta_counts(total)
        coded = ["....", *words(generator, len(counts) - 1)]
        text = generator.permutation(np.repeat(coded, counts))
        answer = coded[1:4]
        question = FREQUENT.format(context=" ".join(text))
        return Example((question.encode(), f" {' '.join(answer)}\n".encode()), tuple(answer), "[a-z]+")


def _zeta_counts(total: int) -> list[int]:
    """How often each rank stands among `total` words: as often as zeta(2) = pi**2 / 6 says, rounded down."""
    ranks = np.arange(1, int((6 * total) ** 0.5 / np.pi) + 2, dtype=np.float64)
    counts = (total * 6 / np.pi**2 / ranks**2).astype(np.int64)
    return counts[counts > 0].tolist()
