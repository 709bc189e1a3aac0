"""The speed of trained cells, one after the other when none is trained any more, so that none is timed beside another.

It is measured in rounds, a seed at a time, so that what else the machine does falls on all architectures alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from everlong.lab.cell import FINISHED, read_status, set_status
from everlong.lab.plan import Job
from everlong.lab.questions import SPEED, Questions, timed
from everlong.train.run import load_run

Told = Callable[[Job, int, float], None]
"""Hears of the cell that is timed, how many bytes of context there are for all cells, and how many were just read."""


def time_cells(jobs: Sequence[Job], cells: Path, questions: Questions, told: Told) -> None:
    """Measures the finished cells that have not been timed, with all of torch's threads, and adds it to their results.

    Raises:
        CheckpointError: the model of a cell is gone or damaged.
    """
    waiting = [(job, result) for job in jobs if (result := _result(cells / job.name)) and SPEED not in result]
    total = len(waiting) * sum(questions.lengths)
    for job, result in waiting:
        folder = cells / job.name
        speed = timed(load_run(folder).model, questions, partial(told, job, total))
        set_status(folder, job.cell, FINISHED, result={**result, SPEED: speed})


def _result(folder: Path) -> dict[str, Any] | None:
    status = read_status(folder)
    return status["result"] if status and status["state"] == FINISHED else None
