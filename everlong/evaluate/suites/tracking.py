"""Variable tracking: which variables hold a value, when most are assigned from one another?

Source: RULER (Hsieh et al. 2024, arXiv 2404.06654), its template, with a solved example before the question. RULER
sizes that example by tokens and never returns for byte-level tokenizers; here it has one fixed text.

With one chain, as published, naming every variable is right; with several, the value decides.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from everlong.core.config import check
from everlong.evaluate.suites.example import Example, Suite
from everlong.evaluate.suites.text import names, scattered

TEXT = """Memorize and track the chain(s) of variable assignment hidden in the following text.

{context}
Question: Find all variables that are assigned the value {value} in the text above. Answer: According to the \
chain(s) of variable assignment in the text above, {count} variables are assigned the value {value}, they are:"""


class Tracking(Suite):
    """`hops` assignments follow the first of every chain."""

    chains: int = 1
    hops: int = 4

    def __post_init__(self) -> None:
        for name in ("chains", "hops"):
            check(getattr(self, name) >= 1, f"tracking.{name}", getattr(self, name), "must be at least 1")
        lines = self.chains * (self.hops + 1)
        check(lines <= 1000, "tracking.chains", self.chains, f"makes {lines} assignments; 1,000 are the most")

    @property
    def chance(self) -> float:
        return 26.0 ** (-5 * (self.hops + 1))

    def build(self, generator: np.random.Generator, filler: int, depth: float) -> Example:
        shown, solution, _ = self._task(generator, among=1, letters=3)
        asked, answer, right = self._task(generator, among=filler, letters=5)
        text = f"{shown} {solution}\n\n{asked}"
        return Example((text.encode(), f" {answer}\n".encode()), tuple(right), "[A-Z]{5}")

    def _task(self, generator: np.random.Generator, among: int, letters: int) -> tuple[str, str, list[str]]:
        """Question, answer, and the variables that it names."""
        size = self.hops + 1
        known = names(generator, self.chains * size, letters)
        values = generator.choice(np.arange(10_000, 99_999), self.chains, replace=False).tolist()
        chains = [
            _chain(known[start : start + size], value)
            for start, value in zip(range(0, len(known), size), values, strict=True)
        ]
        context = "\n".join(scattered(generator, _interleaved(generator, chains), among))
        return TEXT.format(context=context, value=values[0], count=size), " ".join(known[:size]), known[:size]


def _chain(known: list[str], value: int) -> list[str]:
    return [f"VAR {known[0]} = {value}", *(f"VAR {name} = VAR {before}" for before, name in pairwise(known))]


def _interleaved(generator: np.random.Generator, chains: list[list[str]]) -> list[str]:
    """All lines, those of each chain in their order."""
    turns = generator.permutation([i for i, chain in enumerate(chains) for _ in chain])
    waiting = [iter(chain) for chain in chains]
    return [next(waiting[turn]) for turn in turns]
