"""The table of systems in README.md: what each of the big table's architectures costs and reaches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from everlong.cli.tables import memory
from everlong.lab.results import Group
from everlong.train.console import si
from studies.evidence.kept import Kept, models

STUDY = "table"
COLUMNS = ("system", "bits per byte", "parameters", "state after 1 MB", "reads, bytes/s", "writes, bytes/s", "recall")


def systems(kept: Kept) -> str:
    """The table, best first, with what it was measured by."""
    results, groups = kept.study(STUDY), list(kept.groups(STUDY).values())
    if results is None or not groups:
        return f"What each costs and reaches is not measured yet; `everlong compare studies/{STUDY}.py` does it."
    lead = (
        f"At equal FLOPs per byte ({models(results, *groups)}; [report](studies/results/{STUDY}/report.md), "
        f"`everlong compare studies/{STUDY}.py`), with 95% intervals over seeds and documents; {_threads(groups)}:"
    )
    rows = sorted(groups, key=lambda group: group.interval.estimate if group.interval else float("inf"))
    lines = [COLUMNS, ["---"] * len(COLUMNS), *(list(_row(group)) for group in rows)]
    return "\n".join([lead, "", *(f"| {' | '.join(line)} |" for line in lines)])


def _threads(groups: Sequence[Group]) -> str:
    """With how many speeds were taken."""
    counts = sorted({run["threads"] for group in groups for run in group.runs.values()})
    return "speeds with " + " or ".join("one thread" if count == 1 else f"{count} threads" for count in counts)


def _row(group: Group) -> Iterator[str]:
    assert group.interval is not None  # it has two seeds or more
    yield f"`{group.plan['preset'].partition(':')[0]}`"
    yield f"{group.interval.estimate:.3f} ({group.interval.low:.3f} to {group.interval.high:.3f})"
    yield si(float(group.plan["cost"]["parameters"])).strip()
    yield memory(group.plan["cost"]["state_bytes"])
    for kind in ("reading", "decoding"):
        yield si(_mean(group, "speed", kind)).strip()
    yield f"{_mean(group, 'recall', 'exact'):.0%}"


def _mean(group: Group, metric: str, field: str) -> float:
    """At the greatest length, over the seeds."""
    found = [run[metric][field][-1] for run in group.runs.values()]
    return sum(found) / len(found)
