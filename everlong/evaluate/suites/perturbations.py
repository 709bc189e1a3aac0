"""Five ways to disturb a text that leave a person able to read it.

Source: the character-level noise of BLT (Pagnoni et al. 2024, arXiv 2412.09871, section 6.1) and H-Net (Hwang et al.
2025, arXiv 2507.07955, table 3). Every one draws its random numbers from a generator that it is given.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

DROPPED, REPEATED, MOST_REPEATS = 0.1, 0.2, 4
"""Shares of the characters that are dropped or repeated, and how often one stands at most."""

Perturbation = Callable[[np.random.Generator, str], str]


def ant_speak(generator: np.random.Generator, text: str) -> str:
    """UPPER CASE, with a space after every character: `T H I S`."""
    return " ".join(text.upper())


def drop(generator: np.random.Generator, text: str) -> str:
    """Every tenth character or so is missing."""
    kept = generator.random(len(text)) >= DROPPED
    return "".join(letter for letter, keep in zip(text, kept, strict=True) if keep)


def random_case(generator: np.random.Generator, text: str) -> str:
    """Every character becomes upper or lower case."""
    upper = generator.integers(2, size=len(text))
    return "".join(letter.upper() if up else letter.lower() for letter, up in zip(text, upper, strict=True))


def repeat(generator: np.random.Generator, text: str) -> str:
    """Every fifth character or so stands two, three or four times."""
    chosen = generator.random(len(text)) < REPEATED
    times = generator.integers(2, MOST_REPEATS + 1, size=len(text))
    return "".join(letter * (n if many else 1) for letter, many, n in zip(text, chosen, times.tolist(), strict=True))


def upper_case(generator: np.random.Generator, text: str) -> str:
    """UPPER CASE."""
    return text.upper()


PERTURBATIONS: dict[str, Perturbation] = {
    "AntSpeak": ant_speak,
    "Drop": drop,
    "RandomCase": random_case,
    "Repeat": repeat,
    "UpperCase": upper_case,
}
