"""A claim, and how it is judged: from kept results alone, by a rule that is told beside the verdict."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from studies.evidence.kept import Kept


class Verdict(StrEnum):
    """What a measurement says of a claim, at its scale and of no other."""

    CONFIRMED = "confirmed"
    PARTLY = "partly"
    NOT_HERE = "not at this scale"
    REFUTED = "refuted"
    NOT_MEASURED = "not measured yet"


@dataclass(frozen=True)
class Finding:
    """What a measurement has shown."""

    verdict: Verdict
    told: str
    """The numbers, with their interval where there is one."""
    scale: str
    """Of what, and on what."""


@dataclass(frozen=True)
class Measure:
    """A way to measure a claim, or a part of it."""

    question: str
    commands: tuple[str, ...]
    """That make the results which are judged."""
    rule: str
    """How the verdict follows from them."""
    judge: Callable[[Kept], Finding | None]
    """`None`: the results are not there, or not finished."""


@dataclass(frozen=True)
class Claim:
    """What a paper says in its headline."""

    title: str
    paper: str
    """Its figure, with the place where it stands."""
    measures: tuple[Measure, ...]


@dataclass(frozen=True)
class System:
    """A paper and its claims."""

    name: str
    source: str
    page: str
    """Its page in docs/."""
    claims: tuple[Claim, ...]
    says: str = "The paper"
    """Whose figures its claims are."""


def together(verdicts: Sequence[Verdict]) -> Verdict:
    """The verdict of a claim that was measured in several ways: confirmed by all that were asked for, partly where some
    do, otherwise the most that those which were measured say against it."""
    found = set(verdicts)
    if found == {Verdict.CONFIRMED}:
        return Verdict.CONFIRMED
    if found & {Verdict.CONFIRMED, Verdict.PARTLY}:
        return Verdict.PARTLY
    return next(v for v in (Verdict.REFUTED, Verdict.NOT_HERE, Verdict.NOT_MEASURED) if v in found)
