"""Texts of the passkey study, drawn piece by piece, so that a million symbols take no memory.

Legend: B texts, T places, A digits of an answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from everlong.core.config import check

HAY, DIGITS, NAMES = 24, 10, 16
MARK, QUERY = HAY + DIGITS, HAY + DIGITS + 1
VOCABULARY = HAY + DIGITS + 2 + NAMES
CYCLE = np.random.default_rng(0).integers(HAY, size=40)  # what goes round in a repetitive haystack
ANSWER = 4  # digits
DRAWN = 2048  # places of one draw of a random haystack

Haystack = Literal["repetitive", "random"]


@dataclass(frozen=True)
class Recipe:
    """What texts are made of."""

    haystack: Haystack
    keys: int
    """Keys that are hidden."""
    segment: int
    """N. No key is cut by a border between segments: with short ones every fourth would be, with real ones one in
    hundreds. None stands in a segment with questions, the last ones."""
    questions: int = 1
    """Keys that are asked for."""
    names: int = NAMES
    """From how many those of the keys are drawn."""

    def __post_init__(self) -> None:
        check(1 <= self.keys <= NAMES, "keys", self.keys, f"must be 1 to {NAMES}, as there are names")
        remedy = f"must be {self.keys}, as there are keys, to {NAMES}"
        check(self.keys <= self.names <= NAMES, "names", self.names, remedy)
        check(1 <= self.questions <= self.keys, "questions", self.questions, f"must be 1 to {self.keys}, as keys are")
        check(self.segment > ANSWER + 2, "segment", self.segment, f"must hold the question, {ANSWER + 2} symbols")

    @property
    def size(self) -> int:
        """Symbols of a key: a mark, its name where there are several, and its digits."""
        return 1 + (self.keys > 1) + ANSWER

    @property
    def each(self) -> int:
        """Keys, or questions, that go into a segment."""
        return self.segment // self.size

    @property
    def asking(self) -> int:
        """Segments with questions."""
        return -(-self.questions // self.each)

    @property
    def least_segments(self) -> int:
        """The fewest that a text has: room for all keys, and for the questions."""
        return -(-self.keys // self.each) + self.asking

    def question(self, i: int, length: int) -> int:
        """Where the i-th question from the end begins in a text of a length."""
        return length - i // self.each * self.segment - (i % self.each + 1) * self.size


@dataclass(frozen=True)
class Texts:
    """B texts of one length, drawn piece by piece."""

    recipe: Recipe
    length: int
    seed: tuple[int, ...]
    phase_B: np.ndarray
    planted: list[dict[int, int]]
    """What stands in the haystack, by place."""

    @property
    def answer_A(self) -> np.ndarray:
        """Places of the questions' digits, alike in all texts."""
        ends = [self.recipe.question(i, self.length) + self.recipe.size for i in range(self.recipe.questions)]
        return np.concatenate([np.arange(end - ANSWER, end) for end in reversed(ends)])

    @property
    def answer_BA(self) -> np.ndarray:
        """The digits there."""
        return np.array([[row[place] for place in self.answer_A] for row in self.planted])

    def ids(self, begin: int, end: int) -> Tensor:
        """The symbols from one place to another, (B, end - begin)."""
        ids_BT = self._hay(begin, end)
        for ids_T, row in zip(ids_BT, self.planted, strict=True):
            for place, symbol in row.items():
                if begin <= place < end:
                    ids_T[place - begin] = symbol
        return torch.from_numpy(ids_BT)

    def _hay(self, begin: int, end: int) -> np.ndarray:
        if self.recipe.haystack == "repetitive":
            return CYCLE[(self.phase_B[:, None] + np.arange(begin, end)) % len(CYCLE)]
        drawn = [
            np.random.default_rng((*self.seed, i)).integers(HAY, size=(len(self.phase_B), DRAWN))
            for i in range(begin // DRAWN, -(-end // DRAWN))
        ]
        return np.concatenate(drawn, axis=1)[:, begin % DRAWN :][:, : end - begin]


def texts(recipe: Recipe, length: int, depths: Sequence[float | None], seed: tuple[int, ...]) -> Texts:
    """A text for every depth; `None`: the key stands anywhere. Other keys stand anywhere in any case.

    Raises:
        ConfigError: the keys and the questions do not go into so many symbols, or several questions into parts of
            segments.
    """
    segments, least = -(-length // recipe.segment), recipe.least_segments
    remedy = f"must be above {(least - 1) * recipe.segment}, to hold what is asked behind {recipe.keys} keys"
    check(segments >= least, "length", length, remedy)
    whole = recipe.questions == 1 or length % recipe.segment == 0
    check(whole, "length", length, f"must be a multiple of {recipe.segment} where several keys are asked for")
    generator = np.random.default_rng(seed)
    planted = [_plant(recipe, length, depth, generator) for depth in depths]
    return Texts(recipe, length, seed, generator.integers(len(CYCLE), size=len(depths)), planted)


def _plant(recipe: Recipe, length: int, depth: float | None, generator: np.random.Generator) -> dict[int, int]:
    """Keys at places that do not meet, before the questions; that of the key at the depth is the last one."""
    named = recipe.keys > 1
    names = generator.permutation(recipe.names)[: recipe.keys].tolist() if named else [None]
    each = recipe.each
    slots = (-(-length // recipe.segment) - recipe.asking) * each
    depth = generator.random() if depth is None else depth
    asked = min(round(depth * (slots - 1)), slots - 1)
    others = generator.choice(slots - 1, recipe.keys - 1, replace=False)
    row: dict[int, int] = {}
    for i, (name, slot) in enumerate(zip(names, [asked, *(others + (others >= asked))], strict=True)):
        said = [HAY + int(digit) for digit in generator.integers(DIGITS, size=ANSWER)]
        place = int(slot) // each * recipe.segment + int(slot) % each * recipe.size
        row |= _at(place, [MARK, *_named(name), *said])
        if i < recipe.questions:
            row |= _at(recipe.question(i, length), [QUERY, *_named(name), *said])
    return row


def _named(name: int | None) -> list[int]:
    return [] if name is None else [QUERY + 1 + name]


def _at(place: int, symbols: list[int]) -> dict[int, int]:
    return dict(enumerate(symbols, place))
