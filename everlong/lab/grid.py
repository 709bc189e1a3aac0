"""Runs the cells of a plan, several at a time, each in a process of its own.

What is finished is left alone; what was interrupted or killed goes on from its last checkpoint; what failed is tried
again. A cell that fails does not stop the others. First all learning rates are tried, then the seeds are trained at
the chosen ones, and if speed is asked for, it is measured last.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import torch

from everlong.evaluate.output import write_json
from everlong.lab.cell import FAILED, FINISHED, RUNNING, check_cell, read_status, set_status
from everlong.lab.metrics import HALVES, choose
from everlong.lab.plan import CELLS, PLAN, Job, Plan
from everlong.lab.questions import SPEED, Questions
from everlong.lab.results import chosen_rate
from everlong.lab.speeds import time_cells
from everlong.lab.worker import order
from everlong.train.run import locked


class Watch:
    """Hears how the cells get on, from several threads. Every method may be left as it is."""

    def planned(self, jobs: Sequence[Job]) -> None:
        """These cells will be run."""

    def advanced(self, job: Job, step: int) -> None:
        """A cell has made so many updates."""

    def ended(self, job: Job, state: str, error: str | None) -> None:
        """A cell's process is gone."""

    def timed(self, job: Job, total: int, read: float) -> None:
        """The speed of this cell is measured; of the bytes of context of all cells, it has just read so many."""


def threads_each(at_once: int) -> int:
    """Threads of a cell: its share of those that torch has here."""
    return max(1, torch.get_num_threads() // at_once)


def run_grid(plan: Plan, folder: Path, watch: Watch, *, threads: int) -> None:
    """Runs whatever is not finished yet.

    Args:
        threads: of every cell.

    Raises:
        ConfigError: the study has changed since cells were run, or another process is at work in the folder.
        DataError: the corpus cannot be read, or too few documents are held out.
        KeyboardInterrupt: it was interrupted; running cells have saved.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        cells = folder / CELLS
        sweep = _open(plan.sweep(), cells)  # which finds a changed study before anything is written
        held_out = plan.study.data.open(plan.study.codec).validation
        for half in HALVES:
            choose(held_out, half, plan.study.held_out)  # which finds too few documents before anything is trained
        write_json(folder / PLAN, plan.to_dict())
        Runner(cells, watch, threads).run(sweep, plan.study.at_once)
        written = plan.to_dict()["entries"]
        rates = {i: rate for i, entry in enumerate(written) if (rate := chosen_rate(entry, cells)) is not None}
        runs = plan.runs(rates)
        Runner(cells, watch, threads).run(_open(runs, cells), plan.study.at_once)
        if SPEED in plan.study.metrics:
            time_cells(runs, cells, cast(Questions, plan.study.questions), watch.timed)


def _open(jobs: list[Job], cells: Path) -> list[Job]:
    """Those that are not finished."""
    statuses = [check_cell(cells / job.name, job.cell) for job in jobs]
    return [job for job, status in zip(jobs, statuses, strict=True) if not status or status["state"] != FINISHED]


@dataclass
class Runner:
    """Runs cells side by side."""

    cells: Path
    watch: Watch
    threads: int
    stopped: threading.Event = field(default_factory=threading.Event)
    running: set[subprocess.Popen[str]] = field(default_factory=set)
    guard: threading.Lock = field(default_factory=threading.Lock)

    def run(self, jobs: Sequence[Job], at_once: int) -> None:
        """Runs them; an interruption lets the running ones save, and is raised when they have."""
        self.watch.planned(jobs)
        with ThreadPoolExecutor(at_once) as pool:
            try:
                futures = [pool.submit(self._run, job) for job in jobs]
                wait(futures, return_when=FIRST_EXCEPTION)
                for future in futures:
                    future.result()
            finally:
                self.stop()

    def stop(self) -> None:
        """Begins no more cells, and has the running ones save and end."""
        with self.guard:
            self.stopped.set()
            for process in self.running:
                assert process.stdin is not None  # it is a pipe
                process.stdin.close()

    def _run(self, job: Job) -> None:
        folder = self.cells / job.name
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / "log.txt", "w", encoding="utf-8") as log:
            process = self._start(job, folder, log.fileno())
            if process is None:
                return
            with process:
                assert process.stdout is not None  # it is a pipe
                for line in process.stdout:
                    self.watch.advanced(job, int(line))
                code = process.wait()
            with self.guard:
                self.running.discard(process)
        self._end(job, folder, code)

    def _start(self, job: Job, folder: Path, log: int) -> subprocess.Popen[str] | None:
        """The cell's process, in a session of its own: the keyboard's signals are not for it."""
        with self.guard:
            if self.stopped.is_set():
                return None
            environment = {**os.environ, "OMP_NUM_THREADS": str(self.threads)}
            process = subprocess.Popen(
                [sys.executable, "-m", "everlong.lab.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=environment,
                start_new_session=True,
            )
            self.running.add(process)
            assert process.stdin is not None  # it is a pipe
            process.stdin.write(order(folder, job.cell, self.threads))
            process.stdin.flush()
        return process

    def _end(self, job: Job, folder: Path, code: int) -> None:
        """Records what the process could not: that it was killed, or never came to its work."""
        status = read_status(folder)
        if (status is None or status["state"] == RUNNING) and not self.stopped.is_set():
            set_status(folder, job.cell, FAILED, error=f"its process ended with code {code}; see log.txt")
            status = read_status(folder)
        if status is not None:
            self.watch.ended(job, status["state"], status.get("error"))
