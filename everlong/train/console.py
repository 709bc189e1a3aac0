"""Live progress: a bar in a terminal, a line from time to time elsewhere."""

from __future__ import annotations

import signal
import time

from rich import progress as rich_progress
from rich.console import Console

from everlong.train.callbacks import Callback
from everlong.train.progress import Record, Result, Step

LINE_EVERY = 10.0
"""Seconds between lines where there is no terminal."""
REFRESHES = 2
"""Times a second that the bar is drawn; more would take cores from the training."""


class ConsoleProgress(Callback):
    """Shows loss, bytes/s, FLOP/s, utilisation and the remaining time, on stderr."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)
        self.bar = rich_progress.Progress(
            rich_progress.TextColumn("{task.description}"),
            rich_progress.BarColumn(bar_width=20),
            rich_progress.MofNCompleteColumn(),
            rich_progress.TextColumn("{task.fields[told]}"),
            console=self.console,
            refresh_per_second=REFRESHES,
            transient=True,
        )
        self.train, self.validation, self.left = "", "", ""
        self.spoken = 0.0

    def on_start(self, step: int, steps: int) -> None:
        self.task = self.bar.add_task("training", total=steps, completed=step, told="")
        self.begun, self.spoken = (step, time.monotonic()), time.monotonic()
        if self.console.is_terminal:
            self.bar.start()

    def on_step(self, step: Step) -> Record | None:
        self.left = self._left(step)
        self.bar.update(self.task, completed=step.step, told=self._told())
        if not self.console.is_terminal and time.monotonic() - self.spoken > LINE_EVERY:
            self.spoken = time.monotonic()
            self.console.print(f"step {step.step}/{step.steps}  {self._told()}", soft_wrap=True, highlight=False)
        return None

    def on_record(self, record: Record) -> None:
        if record["kind"] == "train":
            self.train = train_line(record)
        elif record["kind"] == "validation":
            self.validation = f"held out {record['bits_per_byte']:.3f}"

    def on_end(self, result: Result | None) -> None:
        if self.bar.live.is_started:
            self.bar.stop()
        if result is not None:
            self.console.print(end_line(result), soft_wrap=True, highlight=False)

    def _told(self) -> str:
        return " · ".join(part for part in (self.train, self.validation, self.left) if part)

    def _left(self, step: Step) -> str:
        step_before, time_before = self.begun
        done = step.step - step_before
        if not done:
            return ""
        seconds = (time.monotonic() - time_before) / done * (step.steps - step.step)
        return f"{clock(seconds)} left"


def train_line(record: Record) -> str:
    """A train record in a few words."""
    parts = [
        f"{record['bits_per_byte']:.3f} bits/byte",
        f"{si(float(record['bytes_per_second']))}B/s",
        f"{si(float(record['flops_per_second']))}FLOP/s",
    ]
    if "utilisation" in record:
        parts.append(f"{record['utilisation']:.0%} of matmul rate")
    if record["bad_steps"]:
        parts.append(f"{record['bad_steps']} skipped")
    return " · ".join(parts)


def end_line(result: Result) -> str:
    """How the run ended, in a line."""
    how = "done" if result.interrupted is None else f"stopped by {signal.Signals(result.interrupted).name}, and saved"
    loss = f"{result.loss:.3f} bits/byte"
    held_out = "" if result.validation_loss is None else f", held out {result.validation_loss:.3f}"
    seen = f"{si(float(result.bytes_seen))}B seen in {clock(result.seconds)}"
    return f"{how} at step {result.step}: {loss}{held_out}, {seen}"


def si(value: float) -> str:
    """A number in three digits and a decimal prefix: `1234567.0` is `1.23 M`."""
    for prefix in ("", "k", "M", "G", "T"):
        if abs(value) < 999.5:
            return f"{value:.3g} {prefix}"
        value /= 1000
    return f"{value:.3g} P"


def clock(seconds: float) -> str:
    """Seconds as `h:mm:ss`."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
