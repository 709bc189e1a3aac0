"""Callbacks hear of a run's steps. What they remember is part of every checkpoint.

A callback that sums up (the meter, the validation) answers a step with a record; one that tells (a file, the
console, TensorBoard) hears the records of all.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from everlong.core.errors import ConfigError, TrainingError
from everlong.train.progress import Record, Result, Step


class Callback:
    """Hears of a run. Every method may be left as it is.

    What it remembers is kept under the name of its class: a run has one of each.
    """

    def on_start(self, step: int, steps: int) -> None:
        """The run goes on after update `step` of `steps`."""

    def on_step(self, step: Step) -> Record | None:
        """A batch was learnt or skipped. A record in return goes to every callback."""

    def on_record(self, record: Record) -> None:
        """A callback has made a record."""

    def on_end(self, result: Result | None) -> None:
        """The run ended, was interrupted, or failed (`None`)."""

    def state_dict(self) -> dict[str, Any]:
        """What it remembers, as JSON values."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Remembers what `state_dict` gave."""


class JsonLines(Callback):
    """Appends every record to a file, one JSON object a line.

    When a run goes on from a checkpoint, the records of later steps, which will be made again, are cut off, and so
    is a line that was not finished.

    Raises:
        TrainingError: the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_start(self, step: int, steps: int) -> None:
        if self.path.exists():
            with open(self.path, "r+b") as file:
                file.truncate(sum(len(line) for line in _until(file.read().splitlines(keepends=True), step)))

    def on_record(self, record: Record) -> None:
        try:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
        except OSError as error:
            remedy = f"cannot be written ({error.strerror}): free space, then resume from the last checkpoint"
            raise TrainingError("metrics", str(self.path), remedy) from error


def read_records(path: Path) -> list[Record]:
    """The records that `JsonLines` wrote."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _until(lines: list[bytes], step: int) -> list[bytes]:
    """The first lines, as long as they are whole and not beyond `step`."""
    return list(itertools.takewhile(lambda line: _step(line) <= step, lines))


def _step(line: bytes) -> float:
    """The step of a record; infinity if it is none."""
    try:
        return float(json.loads(line)["step"]) if line.endswith(b"\n") else math.inf
    except (ValueError, LookupError, TypeError):
        return math.inf


class TensorBoard(Callback):
    """Writes every number of every record as a TensorBoard scalar (extra `track`).

    Raises:
        ConfigError: the extra is not installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ConfigError("track", "tensorboard", "is not installed: pip install everlong[track]") from error
        self.folder, self.make, self.writer = folder, SummaryWriter, None

    def on_start(self, step: int, steps: int) -> None:
        self.writer = self.make(str(self.folder), purge_step=step + 1)

    def on_record(self, record: Record) -> None:
        for name, value in record.items():
            if self.writer is not None and name not in ("kind", "step"):
                self.writer.add_scalar(f"{record['kind']}/{name}", value, record["step"])

    def on_end(self, result: Result | None) -> None:
        if self.writer is not None:
            self.writer.close()
