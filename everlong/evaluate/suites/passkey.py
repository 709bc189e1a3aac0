"""Passkey retrieval: one number, said once, in text of any length that says nothing.

Source: Mohtashami & Jaggi 2023 (arXiv 2305.16300), `llama/run_test.py` of landmark-attention, word for word. The
filler is cut to a number of characters, and begins anew behind the key, as published; it is not limited to 180,000.
"""

from __future__ import annotations

import numpy as np

from everlong.core.config import check
from everlong.evaluate.suites.example import Example, Suite
from everlong.evaluate.suites.text import NOISE

TEXT = """There is an important info hidden inside a lot of irrelevant text. Find it and memorize them. I will quiz \
you about the important information there.
{before}
The pass key is {key}. Remember it. {key} is the pass key.
{after}
What is the pass key? The pass key is"""


class Passkey(Suite):
    """The published range gives keys of one to five digits, of which short ones are easier; from 10,000 to 99,999
    all have five."""

    least: int = 1
    most: int = 50_000

    def __post_init__(self) -> None:
        check(0 <= self.least <= self.most, "passkey.least", self.least, f"must be from 0 to most, {self.most}")

    @property
    def chance(self) -> float:
        return 1 / (self.most - self.least + 1)

    def build(self, generator: np.random.Generator, filler: int, depth: float) -> Example:
        key = str(generator.integers(self.least, self.most + 1))
        before = round(depth * filler)
        text = TEXT.format(before=_noise(before), key=key, after=_noise(filler - before))
        return Example((text.encode(), f" {key}.".encode()), (key,), r"\d+", depth)


def _noise(characters: int) -> str:
    return ((NOISE + " ") * (characters // len(NOISE) + 1))[:characters]
