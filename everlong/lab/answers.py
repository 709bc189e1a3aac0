"""What a report tells of long-context suites and of speed: one table and, for each, a figure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from everlong.evaluate.report import Table
from everlong.evaluate.suites import SUITES
from everlong.lab import plots
from everlong.lab.markdown import Drawing, Piece
from everlong.lab.questions import SPEED
from everlong.lab.results import Group


def answers(told: str, groups: Sequence[Group], prefix: str) -> Iterator[Piece]:
    """The pieces of a comparison; none of what was not measured.

    Args:
        told: how the comparison is called.
        groups: those with finished runs.
        prefix: of the figures' names.
    """
    asked = [name for name in SUITES if any(_runs(group, name) for group in groups)]
    if asked:
        yield _scores(told, groups, asked)
    for name in asked:
        drawn = plots.lines(_against_state(groups, name), "state, bytes", "exact answers", 2)
        caption = "One point a length of the question; mean over the seeds."
        yield Drawing(f"{told}: {name} against the size of the state", drawn, caption, f"{prefix}state-{name}")
    if any(_runs(group, SPEED) for group in groups):
        drawn = plots.lines(_latency(groups), "context, bytes", "milliseconds a byte", 2)
        caption = "Generation, one byte at a time, each model alone on the machine; mean over the seeds."
        yield Drawing(f"{told}: latency against context", drawn, caption, f"{prefix}latency")


def _scores(told: str, groups: Sequence[Group], asked: Sequence[str]) -> Table:
    columns = ("suite", "bytes", "architecture", "state bytes", "exact", "lowest and highest seed", "taught", "chance")
    rows = [
        row
        for name in asked
        for i, length in enumerate(_runs(groups[0], name)[0]["lengths"])
        for group in groups
        for row in [_row(name, i, length, group)]
    ]
    caption = (
        "The share of questions whose generated answer is right, and the share of answers that were foretold byte by "
        "byte given the right bytes before. At chance, a model has not learnt to answer: that says nothing of its "
        "architecture."
    )
    return Table(f"{told}: suites", columns, rows, caption)


def _row(name: str, i: int, length: int, group: Group) -> tuple[str, ...]:
    runs = _runs(group, name)
    exact, taught = [run["exact"][i] for run in runs], [run["taught"][i] for run in runs]
    return (
        name,
        f"{length:,}",
        group.name,
        f"{runs[0]['state_bytes'][i]:,}",
        f"{sum(exact) / len(exact):.1%}",
        f"{min(exact):.1%} to {max(exact):.1%}",
        f"{sum(taught) / len(taught):.1%}",
        f"{runs[0]['chance']:.2g}",
    )


def _against_state(groups: Sequence[Group], name: str) -> dict[str, plots.Points]:
    found = {}
    for group in groups:
        runs = _runs(group, name)
        found[group.name] = sorted(zip(map(float, runs[0]["state_bytes"]), _means(runs, "exact"), strict=True))
    return found


def _latency(groups: Sequence[Group]) -> dict[str, plots.Points]:
    found = {}
    for group in groups:
        seconds = [{"each": [1 / rate for rate in run["decoding"]]} for run in _runs(group, SPEED)]
        lengths = map(float, _runs(group, SPEED)[0]["lengths"])
        found[group.name] = sorted((at, 1e3 * mean) for at, mean in zip(lengths, _means(seconds, "each"), strict=True))
    return found


def _means(runs: Sequence[dict[str, Any]], field: str) -> list[float]:
    """Over the runs, by length."""
    return [sum(values) / len(runs) for values in zip(*(run[field] for run in runs), strict=True)]


def _runs(group: Group, name: str) -> list[dict[str, Any]]:
    """What was measured by a metric, of every run."""
    return [run[name] for run in group.runs.values() if name in run]
