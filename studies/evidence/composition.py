"""The claim of the library itself: what it composes is better than each system that it is made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from everlong.lab.results import Group, difference
from everlong.lab.statistics import Interval
from studies.evidence.claim import Claim, Finding, Measure, System
from studies.evidence.kept import Kept, models
from studies.evidence.rules import bits, sign

PRESET = "everlong"


def ahead(study: str) -> Callable[[Kept], Finding | None]:
    """Judges whether the preset needs fewer bits than every other architecture of a study, in all its comparisons."""

    def judge(kept: Kept) -> Finding | None:
        results = kept.study(study)
        if results is None or results.missing:
            return None
        found = [(*_nearest(groups), label) for label, groups in results.matchings()]
        worst, _, _ = max(found, key=lambda each: each[0].high)
        told = "; ".join(f"{label}, less {name}, the nearest: {bits(value)}" for value, name, label in found)
        return Finding(sign(worst), told, models(results, *results.groups))

    return judge


def _nearest(groups: Sequence[Group]) -> tuple[Interval, str]:
    """The difference from the preset that leaves least room, and whose it is."""
    own = next(group for group in groups if group.name == PRESET)
    found = [(difference(own, group), group.name) for group in groups if group is not own]
    return max(((value, name) for value, name in found if value), key=lambda each: each[0].high)


def _measure(text: str, study: str) -> Measure:
    return Measure(
        f"On {text}, does it need fewer bits than the transformer, Mamba-2, the hybrid, Engram and experts, each at "
        "its own learning rate?",
        (f"everlong compare studies/{study}.py",),
        "of all differences from it, by the one whose interval reaches highest: confirmed below 0, refuted above, not "
        "at this scale if it holds 0",
        ahead(study),
    )


EVERLONG = System(
    "Everlong",
    "this library's own preset",
    "composition.md",
    (
        Claim(
            "Better than what it is made of",
            "fewer bits per byte than each system that it is made of, at equal FLOPs and at equal parameters, on two "
            "of source code, prose and DNA",
            (
                _measure("source code", "against"),
                _measure("prose", "against_text"),
                _measure("human DNA", "against_dna"),
            ),
        ),
    ),
    says="The aim",
)
