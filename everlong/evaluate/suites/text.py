"""The text that suites are made of: the published filler, invented words, and places in it."""

from __future__ import annotations

import numpy as np

NOISE = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again."
"""Filler of the passkey task (Mohtashami & Jaggi 2023, arXiv 2305.16300) and of RULER (arXiv 2404.06654)."""

_SYLLABLES = [consonant + vowel for consonant in "bdfghjklmnprstvz" for vowel in "aeiou"]
_LETTERS = list("ABCDEFGHIJKLMNOPQRSTUVWXYZ")

WORDS = len(_SYLLABLES) ** 3
"""How many invented words of six letters there are."""


def words(generator: np.random.Generator, count: int) -> list[str]:
    """Different invented words of six letters, consonants and vowels in turn, or of eight if very many are needed.

    They stand in for word lists that cannot be shipped, and no model has seen them before.
    """
    syllables = 3 if count <= WORDS // 2 else 4
    return _spelled(generator, count, _SYLLABLES, syllables)


def names(generator: np.random.Generator, count: int, size: int) -> list[str]:
    """Different strings of upper-case letters."""
    return _spelled(generator, count, _LETTERS, size)


def _spelled(generator: np.random.Generator, count: int, alphabet: list[str], size: int) -> list[str]:
    base = len(alphabet)
    numbers = generator.choice(base**size, count, replace=False)
    return ["".join(alphabet[number // base**place % base] for place in range(size)) for number in numbers.tolist()]


def scattered(generator: np.random.Generator, lines: list[str], among: int) -> list[str]:
    """Lines in their order, at random places among so many lines of noise."""
    places = np.sort(generator.integers(among + 1, size=len(lines)))
    return inserted(lines, places.tolist(), [NOISE] * among)


def inserted(lines: list[str], places: list[int], context: list[str]) -> list[str]:
    """Line i goes before line `places[i]` of the context; places must not fall."""
    made, begin = [], 0
    for line, place in zip(lines, places, strict=True):
        made += [*context[begin:place], line]
        begin = place
    return made + context[begin:]
