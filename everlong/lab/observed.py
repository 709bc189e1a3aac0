"""What a report tells of what parts show: which share of positions they choose, how often a rule agrees, gates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from everlong.evaluate.report import Table
from everlong.lab.metrics import MODES, OBSERVED
from everlong.lab.results import Group


def observed(told: str, groups: Sequence[Group]) -> Iterator[Table]:
    """The table of a comparison; none where it was not measured.

    Args:
        told: how the comparison is called.
        groups: those with finished runs.
    """
    rows = [row for group in groups for row in _rows(group)]
    if rows:
        caption = (
            "Means over some windows of held-out documents, as parts work in a stream and as they work in training; "
            "over the seeds, with the lowest and the highest. What is shown by several parts is told of each, in the "
            "order in which they run."
        )
        yield Table(f"{told}: what parts show", ("architecture", "what", *(f"in {m}" for m in MODES)), rows, caption)


def _rows(group: Group) -> Iterator[tuple[str, ...]]:
    found = [run[OBSERVED] for run in group.runs.values() if OBSERVED in run]
    for name in dict.fromkeys(name for each in found for mode in MODES for name in each[mode]):
        cells = ([each[mode][name] for each in found if name in each[mode]] for mode in MODES)
        yield group.name, name, *(map(_cell, cells))


def _cell(values: Sequence[float]) -> str:
    if not values:
        return ""
    return f"{sum(values) / len(values):.4f} ({min(values):.4f} to {max(values):.4f})"
