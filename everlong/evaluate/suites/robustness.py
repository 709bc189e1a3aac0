"""How much of what a model can do is left when its input is disturbed.

With accuracy a on contexts as they are, a_p under perturbation p, and c at chance, the robustness score is

    100 mean_p (a_p - c) / (a - c),

the share of what is above chance that stays. H-Net and BLT report a score of the kind on HellaSwag; ours is on
choices made of the documents at hand (`choices.py`), so the numbers are not comparable with theirs. Contexts are
disturbed, continuations are not.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from everlong.data import TokenStore
from everlong.data.progress import progress
from everlong.evaluate.suites.choices import OPTIONS, Choices, choices, chosen
from everlong.evaluate.suites.measured import wilson
from everlong.evaluate.suites.perturbations import PERTURBATIONS
from everlong.model.language_model import LanguageModel


@dataclass(frozen=True)
class Robustness:
    """Accuracy with and without perturbations."""

    examples: int
    chance: float
    accuracy: float
    """On contexts as they are."""
    interval: tuple[float, float]
    """Of it, at 95 %."""
    perturbed: dict[str, float]
    """Accuracy under each perturbation."""
    score: float | None
    """See the top of this file; `None` if the accuracy is not surely above chance, for then nothing can be lost."""


def robustness(model: LanguageModel, store: TokenStore, *, count: int = 200, seed: int = 0) -> Robustness:
    """Measures a model on choices made of documents.

    Raises:
        ConfigError: `count` is below 1, or the codec is not the model's.
        DataError: there are too few documents that are long enough.
        EverlongError: the model's numbers are not finite.
    """
    asked = choices(store, count=count, seed=seed)
    with progress("robustness", 1 + len(PERTURBATIONS)) as advance:

        def right(asked: list[Choices]) -> int:
            found = chosen(model, store.codec, asked)
            advance(1.0)
            return sum(choice.gold == taken for choice, taken in zip(asked, found, strict=True))

        plain = right(asked)
        perturbed = {name: right(_disturbed(asked, name, seed)) / count for name in PERTURBATIONS}
    interval = wilson(plain, count)
    return Robustness(
        count, 1 / OPTIONS, plain / count, interval, perturbed, _score(plain / count, interval, perturbed)
    )


def _disturbed(asked: list[Choices], name: str, seed: int) -> list[Choices]:
    generator = np.random.Generator(np.random.PCG64([seed, *name.encode()]))
    return [replace(choice, context=PERTURBATIONS[name](generator, choice.context)) for choice in asked]


def _score(accuracy: float, interval: tuple[float, float], perturbed: dict[str, float]) -> float | None:
    chance = 1 / OPTIONS
    if interval[0] <= chance:
        return None
    return 100 * float(np.mean([(value - chance) / (accuracy - chance) for value in perturbed.values()]))
