"""Needles in a haystack: keys with values, hidden in noise or among other needles; some keys are asked for.

Source: RULER (Hsieh et al. 2024, arXiv 2404.06654), its template and needle. Keys are invented words instead of
adjective-noun pairs, and there is no haystack of essays, since neither list nor essays can be shipped.
"""

from __future__ import annotations

import uuid
from typing import Literal

import numpy as np

from everlong.core.config import check
from everlong.evaluate.suites.example import Example, Suite
from everlong.evaluate.suites.text import NOISE, inserted, words

TEXT = """Some special magic {kind} are hidden within the following text. Make sure to memorize it. I will quiz you \
about the {kind} afterwards.
{context}
What are all the special magic {kind} for {query} mentioned in the provided text? The special magic {kind} for \
{query} mentioned in the provided text are"""
SINGLE = """A special magic {kind} is hidden within the following text. Make sure to memorize it. I will quiz you \
about the {kind} afterwards.
{context}
What is the special magic {kind} for {query} mentioned in the provided text? The special magic {kind} for {query} \
mentioned in the provided text is"""
NEEDLE = "One of the special magic {kind} for {key} is: {value}."

_PATTERNS = {"numbers": r"\d+", "uuids": r"[0-9a-f]+(?:-[0-9a-f]+)+"}
_POSSIBLE = {"numbers": 9_000_000, "uuids": 2**122}


class Needle(Suite):
    """RULER's niah tasks are settings of this."""

    keys: int = 1
    """Keys that are hidden."""
    values: int = 1
    """Values of each."""
    queries: int = 1
    """Keys that are asked for."""
    kind: Literal["numbers", "uuids"] = "numbers"
    """Numbers have seven digits; of uuids, keys are made too."""
    haystack: Literal["noise", "needles"] = "noise"
    """What they are hidden in: the same line again and again, or needles that nobody asks for."""

    def __post_init__(self) -> None:
        for name in ("keys", "values", "queries"):
            check(getattr(self, name) >= 1, f"needle.{name}", getattr(self, name), "must be at least 1")
        check(self.queries <= self.keys, "needle.queries", self.queries, f"must be at most keys, {self.keys}")

    @property
    def chance(self) -> float:
        return (1 / _POSSIBLE[self.kind]) ** (self.values * self.queries)

    def build(self, generator: np.random.Generator, filler: int, depth: float) -> Example:
        hay = filler if self.haystack == "needles" else 0
        keys = self._keys(generator, self.keys + hay)
        gold = {key: [self._value(generator) for _ in range(self.values)] for key in keys[: self.keys]}
        needles = [self._needle(key, value) for key, values in gold.items() for value in values]
        context = [self._needle(key, self._value(generator)) for key in keys[self.keys :]] or [NOISE] * filler
        items = [value for values in list(gold.values())[: self.queries] for value in values]
        asked = _listed(list(gold)[: self.queries])
        if len(needles) == 1:
            places = [round(depth * filler)]
        else:
            places = np.sort(generator.integers(filler + 1, size=len(needles))).tolist()
            needles = [needles[i] for i in generator.permutation(len(needles))]
        text = self._question("\n".join(inserted(needles, places, context)), asked, len(items))
        shown = depth if len(needles) == 1 else None
        return Example((text.encode(), f" {_listed(items)}.".encode()), tuple(items), _PATTERNS[self.kind], shown)

    def _question(self, context: str, query: str, values: int) -> str:
        if values == 1:
            return SINGLE.format(kind=self.kind[:-1], context=context, query=query)
        return TEXT.format(kind=self.kind, context=context, query=query)

    def _needle(self, key: str, value: str) -> str:
        return NEEDLE.format(kind=self.kind, key=key, value=value)

    def _keys(self, generator: np.random.Generator, count: int) -> list[str]:
        return words(generator, count) if self.kind == "numbers" else [_uuid(generator) for _ in range(count)]

    def _value(self, generator: np.random.Generator) -> str:
        return str(generator.integers(1_000_000, 10_000_000)) if self.kind == "numbers" else _uuid(generator)


def _uuid(generator: np.random.Generator) -> str:
    return str(uuid.UUID(bytes=generator.bytes(16), version=4))


def _listed(items: list[str]) -> str:
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + ", and " + items[-1]
