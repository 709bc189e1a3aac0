"""A corpus: files, split into training and validation documents and kept as two token stores.

A corpus lies in the cache under a name made of all that it depends on: the codec, every file's path, size and
time of change, and the settings of the split. Change one, and another corpus is built.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from everlong.core.errors import DataError
from everlong.data.cache import cached, default_cache
from everlong.data.codec import Codec
from everlong.data.document import read_document
from everlong.data.files import expand, standard_library
from everlong.data.progress import progress
from everlong.data.split import Split
from everlong.data.store import StoreWriter, TokenStore

FORMAT = 1
"""Version of what lies in the cache."""


@dataclass(frozen=True, eq=False)
class Corpus:
    """Training and validation documents."""

    train: TokenStore
    validation: TokenStore
    empty: int
    """Files left out because they hold no bytes."""
    withheld: int
    """Training files left out because the same bytes were named for validation."""

    @property
    def fingerprint(self) -> str:
        """A hash that two corpora share exactly if they hold the same streams, wherever their files lie."""
        return hashlib.sha256(f"{self.train.fingerprint} {self.validation.fingerprint}".encode()).hexdigest()


def open_corpus(
    sources: str | Path | Sequence[str | Path] = (),
    *,
    codec: Codec,
    validation_fraction: float = 0.05,
    validation_sources: str | Path | Sequence[str | Path] | None = None,
    cache: str | Path | None = None,
) -> Corpus:
    """Opens a corpus, which is built first if the cache does not hold it.

    Args:
        sources: files, folders and globs, plain or packed; none at all: the standard library's own sources.
        codec: turns documents into ids.
        validation_fraction: the share of documents to hold out, between 0 and 1.
        validation_sources: hold out exactly these instead, and leave their copies out of training.
        cache: the folder to keep it in; by default the user's own.

    Raises:
        DataError: a file cannot be read, a split holds nothing, or the cache cannot be written.
    """
    files = expand(sources) if sources else standard_library()
    if validation_sources is None:
        _check_split(files, validation_fraction)
        recipe = _Recipe(_stated(files), [], validation_fraction, codec)
    else:
        recipe = _Recipe(_stated(files), _stated(expand(validation_sources)), 0.0, codec)
    home = default_cache() if cache is None else Path(cache).expanduser()
    return cached(home / "corpora" / recipe.key(), recipe.build, recipe.load)


class _File(NamedTuple):
    path: str
    size: int
    changed: int
    """Time of the last change, in nanoseconds."""


@dataclass(frozen=True)
class _Recipe:
    """All that a corpus depends on, and how to build and load it."""

    files: list[_File]
    named: list[_File]
    """Validation files; none where the split goes by fraction."""
    fraction: float
    codec: Codec

    def key(self) -> str:
        told = [FORMAT, self.codec.fingerprint(), self.files, self.named, self.fraction]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:32]

    def build(self, folder: Path) -> None:
        """Writes both stores, and what was left out of them.

        Raises:
            DataError: a file cannot be read, or a split holds nothing.
            OSError: the folder cannot be written.
        """
        with (
            StoreWriter(folder / "train", self.codec) as train,
            StoreWriter(folder / "validation", self.codec) as validation,
        ):
            split = Split(train, validation, self.fraction)
            self._read(split)
            split.check()
        (folder / "manifest.json").write_text(json.dumps({"empty": split.empty, "withheld": split.withheld}))

    def load(self, folder: Path) -> Corpus | None:
        """The corpus, or `None` if the folder is absent or damaged."""
        try:
            manifest = json.loads((folder / "manifest.json").read_text())
            train, validation = (TokenStore.open(folder / name, self.codec) for name in ("train", "validation"))
            return Corpus(train, validation, manifest["empty"], manifest["withheld"])
        except (OSError, EOFError, ValueError, LookupError, TypeError):  # all that damaged files lead to
            return None

    def _read(self, split: Split) -> None:
        """Hands every document to the split, those that are named for validation first."""
        total = sum(file.size for file in self.named + self.files)
        with progress("reading data", total) as advance:
            for i, file in enumerate(self.named + self.files):
                named = i < len(self.named)
                data = read_document(file.path)
                split.add(file.path, data, named=named, advance=lambda part, size=file.size: advance(part * size))


def _stated(paths: list[Path]) -> list[_File]:
    try:
        stats = [path.stat() for path in paths]
    except OSError as error:
        raise DataError("data", error.filename, f"cannot be seen any more ({error.strerror}): try again") from error
    return [_File(str(path), stat.st_size, stat.st_mtime_ns) for path, stat in zip(paths, stats, strict=True)]


def _check_split(files: list[Path], fraction: float) -> None:
    """Finds what is wrong before any file is read."""
    if not 0 < fraction < 1:
        raise DataError("validation_fraction", fraction, "must lie between 0 and 1, for example 0.05")
    if len(files) == 1:
        remedy = "cannot be split by whole files: give more, or name held-out files with --validation"
        raise DataError("data", str(files[0]), remedy)
