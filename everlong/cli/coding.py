"""What `compress` and `decompress` have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from everlong.data.progress import progress


@contextmanager
def progress_to(label: str, size: int) -> Iterator[Callable[[int], None]]:
    """As `data.progress.progress`, but the function it gives is told all the bytes that are done, not the new ones."""
    before = 0
    with progress(label, size) as advance:

        def reached(done: int) -> None:
            nonlocal before
            advance(done - before)
            before = done

        yield reached
