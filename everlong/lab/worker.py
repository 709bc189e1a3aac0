"""The process of one cell: `python -m everlong.lab.worker`.

It is told on its standard input, in one line of JSON, what to do; then it prints the number of updates made, from
time to time. When its standard input ends, which it does if the process that started it is gone, it saves and stops.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import torch

import everlong
from everlong.core.errors import EverlongError
from everlong.lab.cell import Cell, run_cell
from everlong.train import Callback, Record, Step

EVERY = 0.5
"""Seconds between two words of progress."""


class Telling(Callback):
    """Prints how many updates are made."""

    told = 0.0

    def on_start(self, step: int, steps: int) -> None:
        self._say(step)

    def on_step(self, step: Step) -> Record | None:
        if time.monotonic() - self.told > EVERY or step.step == step.steps:
            self._say(step.step)
        return None

    def _say(self, step: int) -> None:
        self.told = time.monotonic()
        with suppress(BrokenPipeError):  # who listened is gone, and `_follow` will have the run saved
            sys.stdout.write(f"{step}\n")
            sys.stdout.flush()


def order(folder: Path, cell: Cell, threads: int) -> str:
    """The line that tells a worker what to do."""
    return json.dumps({"folder": str(folder), "cell": cell.to_dict(), "threads": threads}) + "\n"


def main() -> int:
    """Does what it is told; returns the exit code, 1 for a cell that failed."""
    told = json.loads(sys.stdin.readline())
    threading.Thread(target=_follow, daemon=True).start()
    torch.set_num_threads(told["threads"])
    cell = everlong.config_from_dict(told["cell"])
    try:
        run_cell(Path(told["folder"]), cell, [Telling()])
    except EverlongError as error:  # it stands in the status
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _follow() -> None:
    """Stops this process when the one that started it is gone."""
    while os.read(sys.stdin.fileno(), 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    raise SystemExit(main())
