"""Live progress of a grid: a bar for all and one for each running cell in a terminal, a line a cell elsewhere."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from everlong.lab.cell import FINISHED
from everlong.lab.grid import Watch
from everlong.lab.plan import Job
from everlong.train.console import REFRESHES, clock, si


class ConsoleWatch(Watch):
    """Shows how the cells get on, on stderr. The remaining time is that of the cells that are planned so far."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(bar_width=20), TextColumn("{task.fields[told]}"))
        self.bar = Progress(*columns, console=self.console, refresh_per_second=REFRESHES, transient=True)
        self.tasks: dict[str, TaskID] = {}
        self.begun, self.cells, self.ended_cells = time.monotonic(), 0, 0
        self.planned_seconds = 0.0
        self.done_seconds: dict[str, float] = {}

    def __enter__(self) -> ConsoleWatch:
        if self.console.is_terminal:
            self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar.live.is_started:
            self.bar.stop()

    def planned(self, jobs: Sequence[Job]) -> None:
        self.cells += len(jobs)
        self.planned_seconds += sum(job.seconds for job in jobs)
        if jobs and "all" not in self.tasks:
            self.tasks["all"] = self.bar.add_task("cells", total=None, told="")

    def advanced(self, job: Job, step: int) -> None:
        steps = job.cell.training.steps
        if job.name not in self.tasks:
            self.tasks[job.name] = self.bar.add_task(job.name, total=steps, told="")
        self.done_seconds[job.name] = job.seconds * step / steps
        self.bar.update(self.tasks[job.name], completed=step, told=f"{step}/{steps}")
        self._tell()

    def ended(self, job: Job, state: str, error: str | None) -> None:
        self.ended_cells += 1
        if job.name in self.tasks:
            self.bar.remove_task(self.tasks.pop(job.name))
        self._tell()
        why = "" if state == FINISHED else f": {error}" if error else ""
        self.console.print(
            f"{self.ended_cells}/{self.cells} {job.name} {state}{why}", soft_wrap=True, highlight=False, markup=False
        )

    def timed(self, job: Job, total: int, read: float) -> None:
        if "speed" not in self.tasks:
            self.tasks["speed"] = self.bar.add_task("speed", total=total, told="")
        self.bar.advance(self.tasks["speed"], read)
        task = next(task for task in self.bar.tasks if task.id == self.tasks["speed"])
        seconds = task.elapsed or 0.0
        rate, left = si(task.completed / max(seconds, 1e-9)), clock(seconds * (total / task.completed - 1))
        self.bar.update(task.id, told=f"{job.name}  {rate}B/s  {left} left")

    def _tell(self) -> None:
        done = sum(self.done_seconds.values())
        left = ""
        if done:
            seconds = (time.monotonic() - self.begun) / done * (self.planned_seconds - done)
            left = f"  {clock(seconds)} left"
        told = f"{self.ended_cells}/{self.cells}{left}"
        self.bar.update(self.tasks["all"], total=self.planned_seconds, completed=done, told=told)
