"""`everlong compare`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import tyro

from everlong.cli.tables import memory, say, show
from everlong.core.errors import TrainingError
from everlong.evaluate import figure
from everlong.lab import Plan, load_study, make_plan, run_grid, threads_each, write_report
from everlong.lab.console import ConsoleWatch
from everlong.lab.statistics import require
from everlong.train.console import clock, si

StudyPath = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="STUDY")]

_COLUMNS = (
    "matching", "architecture", "size", ">parameters", ">FLOPs per byte", ">state", ">mismatch", ">updates",
    ">s/update",
)  # fmt: skip


def compare(study: StudyPath, /, *, plan: bool = False, out: Path | None = None) -> None:
    """Train and compare architectures at matched sizes, as a study says.

    A study is a Python file, as in studies/. The sizes are solved and shown; every learning rate is tried on every
    architecture; the seeds are trained at the best; and a report is written. The same command goes on where it was
    stopped, leaves alone what is finished, and tries again what has failed.

    For example:
      everlong compare studies/baselines.py --plan
      everlong compare studies/baselines.py

    Args:
        study: a Python file whose function study() returns a Study
        plan: show the sizes, their costs and the estimated time, and train nothing
        out: the study's folder; runs/NAME if not given
    """
    require()
    figure.require()
    defined = load_study(study)
    folder = out or Path("runs", defined.name)
    threads = threads_each(defined.at_once)
    if not plan:
        folder.mkdir(parents=True, exist_ok=True)
    planned = make_plan(defined, threads=threads, folder=folder if folder.is_dir() and not plan else None)
    show(_COLUMNS, _rows(planned))
    say(f"\n{_told(planned, threads)}")
    if not plan:
        _run(planned, folder, threads)


def _run(plan: Plan, folder: Path, threads: int) -> None:
    with ConsoleWatch() as watch:
        run_grid(plan, folder, watch, threads=threads)
    results = write_report(folder)
    say(f"\n{folder / 'report.html'}")
    if results.missing:
        first = results.missing[0]
        remedy = f"{first['state']}: {first['error']}; {len(results.missing)} cells are missing, run it again"
        raise TrainingError("cell", first["cell"], remedy)


def _rows(plan: Plan) -> Iterator[tuple[str, ...]]:
    for entry in plan.entries:
        yield (
            entry.label,
            entry.architecture.name,
            " ".join(f"{name}={value}" for name, value in entry.solved.sizes.items()),
            f"{entry.cost.parameters:,}",
            si(entry.cost.flops_per_byte),
            memory(entry.cost.state_bytes),
            f"{entry.solved.mismatch:+.2%}",
            f"{entry.steps:,}",
            f"{entry.seconds:.3f}",
        )


def _told(plan: Plan, threads: int) -> str:
    tolerances = ", ".join(f"{matching.label} within {matching.tolerance:.1%}" for matching in plan.study.matching)
    return (
        f"{tolerances}; {plan.cells} cells, {plan.study.at_once} at a time with {threads} threads each, "
        f"about {clock(plan.seconds)} in all"
    )
