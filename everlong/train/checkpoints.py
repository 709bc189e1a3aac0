"""A folder of checkpoints, each whole or absent, whenever the writer is killed.

    checkpoints/step-000001200/      one checkpoint: files of any kind, and
        config.yaml                  the configuration of the run that it belongs to
        manifest.json                size and SHA-256 of every other file, written last
    checkpoints/.unfinished-*        one that is being written or removed; an orphan, if its writer was killed
    checkpoints/damaged-step-*       one that did not agree with its manifest when the run was resumed

A checkpoint is written under another name, brought to the disk file by file, and renamed. It is compared with its
manifest before anything in it is used.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from everlong.core.config import Config, config_from_dict
from everlong.core.disk import to_disk
from everlong.core.errors import CheckpointError
from everlong.train.plain import check_same, read_yaml, write_yaml

CONFIG, MANIFEST = "config.yaml", "manifest.json"
FORMAT = 1
"""Version of what is in a checkpoint."""

_UNFINISHED, _DAMAGED = ".unfinished-", "damaged-"
_NAME = re.compile(r"step-(\d{9,})")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Opened:
    """A checkpoint that is whole, and of this configuration."""

    step: int
    path: Path
    damaged: tuple[int, ...]
    """Steps of the newer checkpoints, which are damaged."""


class Checkpoints:
    """The checkpoints of one run.

    Args:
        folder: where they lie.
        config: the run's configuration; those of another are refused.
        keep: how many to keep, the newest first.
    """

    def __init__(self, folder: Path, config: Config, keep: int) -> None:
        self.folder, self.config, self.keep = folder, config, keep
        self._known: dict[tuple[int, ...], dict[str, Any]] = {}
        """Size and SHA-256 of files that were written here, by what tells them apart: links are not read again."""

    def steps(self) -> list[int]:
        """Steps of which there is a checkpoint, good or not, from old to new."""
        names = (_NAME.fullmatch(path.name) for path in self.folder.glob("step-*"))
        return sorted(int(name[1]) for name in names if name)

    def path(self, step: int) -> Path:
        """The folder of a step's checkpoint."""
        return self.folder / f"step-{step:09d}"

    def check_room(self, size: int) -> None:
        """Makes sure, before any work is done, that a checkpoint of about `size` bytes will find room.

        Raises:
            CheckpointError: it will not.
        """
        there = next(path for path in (self.folder, *self.folder.absolute().parents) if path.exists())
        free = shutil.disk_usage(there).free
        if free < size:
            remedy = f"has {free:,} bytes free where a checkpoint takes about {size:,}: free space, or name another"
            raise CheckpointError("checkpoints", str(self.folder), remedy)

    def save(self, step: int, fill: Callable[[Path], None]) -> None:
        """Saves what `fill` writes into an empty folder, then lets the oldest go.

        Raises:
            CheckpointError: the disk is full or cannot be written; all earlier checkpoints are as they were.
        """
        work = self.folder / f"{_UNFINISHED}{self.path(step).name}"
        try:
            work.mkdir(parents=True)
            fill(work)
            write_yaml(self.config.to_dict(), work / CONFIG)
            self._known = _seal(work, self._known)
            work.rename(self.path(step))
            to_disk(self.folder)
        except (OSError, SafetensorError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            remedy = f"cannot be written ({reason}): free space, then resume; earlier checkpoints are intact"
            raise CheckpointError("checkpoint", str(self.path(step)), remedy) from error
        finally:
            shutil.rmtree(work, ignore_errors=True)
        self._prune()

    def open(self, step: int | None = None) -> Opened | None:
        """The checkpoint of a step, or the newest that is whole; `None` if there are none at all.

        Raises:
            CheckpointError: there is none of that step, it (or every one) is damaged, or it is of another
                configuration.
        """
        steps = self.steps()
        if step is not None and step not in steps:
            raise CheckpointError("step", step, f"has no checkpoint in {self.folder}; there are {steps}")
        wanted = steps if step is None else [step]
        damaged: list[CheckpointError] = []
        for tried in reversed(wanted):
            try:
                verify(self.path(tried))
            except CheckpointError as error:
                damaged.append(error)
                continue
            for error in damaged:
                _log.warning("%s; going back to %s", error, self.path(tried).name)
            theirs = config_from_dict(read_yaml(self.path(tried) / CONFIG))  # which has fields that are newer than it
            check_same(theirs.to_dict(), self.config.to_dict(), self.path(tried), CheckpointError)
            return Opened(tried, self.path(tried), tuple(steps[len(steps) - len(damaged) :]))
        if damaged:
            told = "; ".join(str(error) for error in damaged)
            raise CheckpointError("checkpoints", str(self.folder), f"none can be used: {told}")
        return None

    def tidy(self, damaged: Sequence[int] = ()) -> None:
        """Sets damaged checkpoints aside, and finishes what a killed writer left."""
        for orphan in self.folder.glob(f"{_UNFINISHED}*"):
            shutil.rmtree(orphan)
        for step in damaged:
            aside = self.folder / f"{_DAMAGED}{self.path(step).name}"
            shutil.rmtree(aside, ignore_errors=True)  # an older one of the same step
            self.path(step).rename(aside)
        self._prune()

    def _prune(self) -> None:
        """Removes all but the newest; none is ever seen half."""
        for step in self.steps()[: -self.keep]:
            going = self.path(step).rename(self.folder / f"{_UNFINISHED}{self.path(step).name}")
            shutil.rmtree(going)


def verify(path: Path) -> None:
    """Compares a checkpoint with its manifest.

    Raises:
        CheckpointError: a file is missing, added, or changed, down to a single bit; it is named.
    """
    try:
        text, found = (path / MANIFEST).read_text(encoding="utf-8"), _contents(path)
        if text == _manifest(found):
            return
        manifest = json.loads(text)
        version, listed = manifest["format"], manifest["files"]
        wrong = [name for name in sorted(listed.keys() | found.keys()) if listed.get(name) != found.get(name)]
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError("checkpoint", str(path), f"is damaged: {MANIFEST} cannot be read ({error})") from error
    if version != FORMAT:
        remedy = f"is of format {version!r}, not {FORMAT}: use the version of Everlong that wrote it"
        raise CheckpointError("checkpoint", str(path), remedy)
    changed = ", ".join(wrong or [MANIFEST])
    raise CheckpointError("checkpoint", str(path), f"is damaged: {changed} changed since it was saved")


def _seal(folder: Path, known: dict[tuple[int, ...], dict[str, Any]]) -> dict[tuple[int, ...], dict[str, Any]]:
    """Brings every file to the disk, the manifest last, then the folder. Returns what is known of the files now."""
    paths = sorted(folder.iterdir())
    for path in paths:
        to_disk(path)
    contents = {path.name: known.get(_identity(path)) or _described(path) for path in paths}
    (folder / MANIFEST).write_text(_manifest(contents), encoding="utf-8")
    to_disk(folder / MANIFEST)
    to_disk(folder)
    return {_identity(path): contents[path.name] for path in paths}


def _identity(path: Path) -> tuple[int, ...]:
    found = path.stat()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _manifest(contents: dict[str, dict[str, Any]]) -> str:
    return json.dumps({"format": FORMAT, "files": contents}, indent=1)


def _contents(folder: Path) -> dict[str, dict[str, Any]]:
    """Size and SHA-256 of every file but the manifest."""
    return {path.name: _described(path) for path in sorted(folder.iterdir()) if path.name != MANIFEST}


def _described(path: Path) -> dict[str, Any]:
    with open(path, "rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}
