"""Folders that are built once: whole or absent, whoever else builds them and whenever a builder is killed."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from everlong.core.disk import to_disk
from everlong.core.errors import DataError

Loaded = TypeVar("Loaded")

_ABANDONED = 24 * 3600.0
"""Seconds after which an unfinished folder is taken for one whose builder was killed."""


def default_cache() -> Path:
    """`$XDG_CACHE_HOME/everlong`, or `~/.cache/everlong`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "everlong"


def cached(folder: Path, build: Callable[[Path], None], load: Callable[[Path], Loaded | None]) -> Loaded:
    """Loads a folder, which is built first if it is absent or damaged.

    It is built under another name, brought to the disk, and renamed. Of two builders at the same time one
    wins, and both load the winner's.

    Args:
        folder: the folder; its name says all that its content depends on.
        build: fills an empty folder.
        load: the content of a folder, or `None` if it is absent or damaged.

    Raises:
        DataError: the folder cannot be written.
    """
    loaded = load(folder)
    if loaded is None:
        try:
            _make(folder, build, load)
        except OSError as error:
            remedy = f"cannot be written ({error.strerror or error}): free space, or name another cache folder"
            raise DataError("cache", str(folder.parent), remedy) from error
        loaded = load(folder)
    if loaded is None:
        raise DataError("cache", str(folder), "was damaged as soon as it was written: check the disk")
    return loaded


def _make(folder: Path, build: Callable[[Path], None], load: Callable[[Path], Loaded | None]) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    _sweep(folder.parent)
    work = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        build(work)
        for path in [*work.rglob("*"), work]:
            to_disk(path)
        _publish(work, folder, load)
        to_disk(folder.parent)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _publish(work: Path, folder: Path, load: Callable[[Path], Loaded | None]) -> None:
    """Gives `work` the name `folder`, unless another builder was first and did well. One builder at a time, or one
    could clear away what another has just put in the place of what was damaged."""
    with _alone(folder.parent):
        if folder.exists():
            if load(folder) is not None:
                return
            with tempfile.TemporaryDirectory(prefix=work.name, dir=folder.parent) as bin_:
                folder.rename(Path(bin_, "damaged"))
        work.rename(folder)


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    descriptor = os.open(home, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _sweep(home: Path) -> None:
    """Removes what killed builders left behind."""
    for path in home.glob(".*"):
        with suppress(FileNotFoundError):  # its builder may just be renaming it
            if time.time() - path.stat().st_mtime > _ABANDONED:
                shutil.rmtree(path, ignore_errors=True)
