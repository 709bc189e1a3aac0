"""A progress bar for work that turns out to take a while."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

PATIENCE = 2.0
"""Seconds of work that nobody needs to be told about."""


@contextmanager
def progress(label: str, total: int) -> Iterator[Callable[[float], None]]:
    """Gives a function to call with the bytes just done; a bar with rate and remaining time appears on stderr
    once the work has taken `PATIENCE`, and is gone when it ends."""
    columns = (TextColumn(label), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=Console(stderr=True), transient=True)
    task = bar.add_task(label, total=total)
    begun = time.monotonic()

    def advance(done: float) -> None:
        bar.advance(task, done)
        if not bar.live.is_started and time.monotonic() - begun > PATIENCE:
            bar.start()

    try:
        yield advance
    finally:
        if bar.live.is_started:
            bar.stop()
