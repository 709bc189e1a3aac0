"""What a suite asks: an example, its size in any codec, and the numbers that it is drawn from.

A suite builds an example from a generator, an amount of filler and a depth. How much filler fits is found by
measuring what was built, never by a formula about tokens, so every codec gets its length; and every search ends,
since each step halves or doubles what is left.
"""

from __future__ import annotations

import re
import zlib
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from everlong.core.config import Config, check
from everlong.core.errors import ContextError
from everlong.data.codec import Codec

SPARE = 4
"""Tokens that an answer may have beyond the gold one's, so that one which is too long is seen to be."""


@dataclass(frozen=True)
class Example:
    """A question with its answers.

    Raises:
        ValueError: the last answer does not satisfy its own pattern.
    """

    parts: tuple[bytes, ...]
    """Text, answer, text, answer, ...; only the last answer is generated, the others can be taught."""
    items: tuple[str, ...]
    """What the last answer must name, in any order."""
    pattern: str
    """Regular expression of an item."""
    depth: float | None = None
    """Where in the context the answer stands, from 0 (its beginning) to 1; `None`: everywhere."""

    def __post_init__(self) -> None:
        if len(self.parts) % 2 or not self.exact(self.answer.decode()):
            raise ValueError(f"an example whose own answer {self.answer!r} is wrong")

    @property
    def prompt(self) -> bytes:
        """All that comes before the last answer."""
        return b"".join(self.parts[:-1])

    @property
    def answer(self) -> bytes:
        """The last answer, as it should be continued."""
        return self.parts[-1]

    def exact(self, text: str) -> bool:
        """Whether the first items that a text names are these and no others, each once."""
        found = re.findall(self.pattern, text)[: len(self.items)]
        return sorted(found) == sorted(self.items)

    def contained(self, text: str) -> float:
        """The share of items that a text contains, in any case, as RULER's `string_match_all` counts."""
        return sum(item.lower() in text.lower() for item in self.items) / len(self.items)


class Suite(Config):
    """A family of examples of any length."""

    @property
    @abstractmethod
    def chance(self) -> float:
        """Probability that a guess is exact, if it knows the form of an answer and nothing of the context."""

    @abstractmethod
    def build(self, generator: np.random.Generator, filler: int, depth: float) -> Example:
        """An example; more filler makes it longer, and none gives the shortest that the task allows."""


def examples(
    suite: Suite, codec: Codec, *, length: int, count: int, seed: int = 0, first: int = 0
) -> Iterator[Example]:
    """Examples of a length, each independent of how many there are, but for its depth, which goes evenly from 0 to 1.

    Args:
        length: tokens that BOS, prompt and generated answer may take together.
        first: number of the first example, so that training and testing can take different ones.

    Raises:
        ConfigError: `count` is below 1, or `seed` or `first` below 0.
        ContextError: the task needs more tokens; the smallest length is told.
    """
    for name, value, least in (("examples", count, 1), ("seed", seed, 0), ("first", first, 0)):
        check(value >= least, name, value, f"must be {least} or more")
    depths = np.linspace(0, 1, count).tolist() if count > 1 else [0.5]
    drafts = [Draft(suite, codec, length, (seed, first + i), depth) for i, depth in enumerate(depths)]
    check_room(drafts)
    return (draft.fitted() for draft in drafts)


@dataclass(frozen=True)
class Draft:
    """An example that is still to be made as long as it may be."""

    suite: Suite
    codec: Codec
    length: int
    key: tuple[int, ...]
    """What it is drawn from, together with the suite and the length."""
    depth: float

    def build(self, filler: int) -> Example:
        """The example with so much filler; always the same."""
        seed = [zlib.crc32(repr(self.suite).encode()), self.length, *self.key]
        return self.suite.build(np.random.Generator(np.random.PCG64(seed)), filler, self.depth)

    def size(self, example: Example) -> int:
        """Tokens of BOS, the prompt and the longest answer that is generated."""
        return 1 + sum(len(self.codec.encode(part)) for part in example.parts) + SPARE

    def fitted(self) -> Example:
        """The example with the most filler that fits, to within one unit of it.

        It doubles the filler until that is too much, then closes in by interpolation and halving in turn.
        """
        best, low, high = self.build(0), 0, 1
        low_size = self.size(best)
        while (high_size := self.size(made := self.build(high))) <= self.length:
            low, low_size, best, high = high, high_size, made, 2 * high
        halve = False
        while high - low > 1 and self.length - low_size >= (high_size - low_size) / (high - low):
            share = 0.5 if halve else (self.length - low_size) / (high_size - low_size)
            middle = min(high - 1, max(low + 1, low + int(share * (high - low))))
            if (middle_size := self.size(made := self.build(middle))) <= self.length:
                low, low_size, best = middle, middle_size, made
            else:
                high, high_size = middle, middle_size
            halve = not halve
        return best


def check_room(drafts: Sequence[Draft]) -> None:
    """Raises `ContextError`, with the smallest length, unless all examples fit when they are shortest."""
    least, draft = max(((draft.size(draft.build(0)), draft) for draft in drafts), key=lambda pair: pair[0])
    if least > draft.length:
        remedy = f"is too short for {type(draft.suite).__name__}: the smallest length is {least} tokens"
        raise ContextError("length", draft.length, remedy)
