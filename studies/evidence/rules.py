"""What several claims are judged by."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from everlong.lab.results import Group, difference
from everlong.lab.statistics import Interval, students_t
from studies.evidence.claim import Finding, Verdict
from studies.evidence.kept import Kept, models

LOWER = "confirmed if the interval of the difference lies below 0, refuted if above, not at this scale if it holds 0"
STEADY = 1.25
"""Largest ratio of times that still counts as constant: what a shared machine leaves between equal runs."""


def sign(value: Interval) -> Verdict:
    """By `LOWER`."""
    if value.high < 0:
        return Verdict.CONFIRMED
    return Verdict.REFUTED if value.low > 0 else Verdict.NOT_HERE


def bits(value: Interval) -> str:
    """A difference of bits per byte."""
    return f"{value.estimate:+.3f} bits per byte ({value.low:+.3f} to {value.high:+.3f})"


def less(one: Group, other: Group) -> tuple[Verdict, str] | None:
    """Whether one architecture needs fewer bits than another; `None`: no seeds in common."""
    value = difference(one, other)
    return None if value is None else (sign(value), f"{one.name} less {other.name}: {bits(value)}")


def fewer_bits(study: str, one: str, other: str) -> Callable[[Kept], Finding | None]:
    """Judges by `LOWER` whether an architecture of a study needs fewer bits than another."""

    def judge(kept: Kept) -> Finding | None:
        results, groups = kept.study(study), kept.groups(study)
        if results is None or one not in groups or other not in groups:
            return None
        found = less(groups[one], groups[other])
        return None if found is None else Finding(*found, models(results, groups[one], groups[other]))

    return judge


def over_seeds(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """The mean of one number a seed, with Student's interval."""
    mean, half = float(np.mean(values)), 0.0
    if spread := float(np.std(values, ddof=1)):
        half = students_t(0.5 + confidence / 2, float(len(values) - 1)) * spread / math.sqrt(len(values))
    return Interval(mean, mean - half, mean + half)


def constant(ratio: float) -> Verdict:
    """Whether a time counts as constant, by `STEADY`."""
    return Verdict.CONFIRMED if ratio <= STEADY else Verdict.REFUTED
