"""Progress tells how many cells are done, which failed and why, and how long it will take."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from everlong.lab.cell import FAILED, FINISHED
from everlong.lab.console import ConsoleWatch


def test_every_cell_that_ends_is_told(plan):
    text = io.StringIO()
    first, second = plan.sweep()[:2]
    with ConsoleWatch(Console(file=text, width=200)) as watch:
        watch.planned([first, second])
        watch.advanced(first, 3)
        watch.ended(first, FINISHED, None)
        watch.ended(second, FAILED, "out of memory")
    assert f"1/2 {first.name} finished" in text.getvalue()
    assert f"2/2 {second.name} failed: out of memory" in text.getvalue()


def test_the_rest_is_foretold_by_what_is_done(plan, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("everlong.lab.console.time.monotonic", lambda: now[0])
    watch = ConsoleWatch(Console(file=io.StringIO()))
    jobs = plan.sweep()[:2]
    watch.planned(jobs)
    now[0] += 30
    watch.advanced(jobs[0], jobs[0].cell.training.steps)  # half of the work
    told = watch.bar.tasks[0].fields["told"]
    assert told == pytest.approx("0/2  0:00:30 left")


def test_speed_has_a_bar_of_its_own(plan, monkeypatch):
    now = [100.0]
    watch = ConsoleWatch(Console(file=io.StringIO()))
    monkeypatch.setattr(watch.bar, "get_time", lambda: now[0])
    job = plan.sweep()[0]
    watch.timed(job, 4000, 500.0)
    now[0] += 10
    watch.timed(job, 4000, 500.0)
    (task,) = watch.bar.tasks
    assert (task.completed, task.total) == (1000, 4000)
    assert task.fields["told"] == f"{job.name}  100 B/s  0:00:30 left"
