"""Fetching a corpus: download, check, unpack, split; whole or not at all.

A fetched corpus is a folder in the cache:

    train/, validation/    documents
    LICENCE                what the packages say of their licences
    manifest.json          the checksum of every document
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from everlong.core.errors import DataError
from everlong.data.cache import cached, default_cache
from everlong.data.corpora.catalogue import CORPORA, Corpus, corpus
from everlong.data.corpora.packages import download, sha256, unpack
from everlong.data.corpora.prepare import TRAIN, VALIDATION
from everlong.data.progress import progress

MANIFEST, LICENCE = "manifest.json", "LICENCE"

_LEGAL = ("copyright", "LICENSE*", "LICENCE*", "COPYING*")


def fetch(name: str, cache: str | Path | None = None) -> Path:
    """Fetches a corpus, unless it is there already and undamaged.

    Args:
        cache: the folder to keep corpora in; by default the user's own.

    Returns:
        Its folder.

    Raises:
        DataError: there is no such corpus; a package cannot be downloaded, or a checksum differs; or the folder
            cannot be written. Nothing half made is left.
    """
    chosen = corpus(name)
    folder = _home(name, chosen, cache)
    return cached(folder, lambda work: _build(name, chosen, work), lambda made: _load(chosen, made))


def fetched(name: str, cache: str | Path | None = None) -> Path:
    """The folder of a corpus that was fetched.

    Raises:
        DataError: there is no such corpus, or it is not fetched yet.
    """
    folder = _home(name, corpus(name), cache)
    if not (folder / MANIFEST).is_file():
        raise DataError("data", name, f"is not fetched yet: everlong data fetch {name}")
    return folder


def sources(
    data: Sequence[str], validation: Sequence[str], cache: str | Path | None = None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What to train on and what to hold out, where `data` may be the name of a fetched corpus.

    A file or folder of that name comes first, and so does what the user holds out.

    Raises:
        DataError: the corpus is not fetched yet.
    """
    if len(data) != 1 or data[0] not in CORPORA or Path(data[0]).exists():
        return tuple(data), tuple(validation)
    folder = fetched(data[0], cache)
    return (str(folder / TRAIN),), tuple(validation) or (str(folder / VALIDATION),)


def digest(folder: Path) -> str:
    """A hash of all documents below `folder` and of their names."""
    return _combined(_checksums(folder))


def _home(name: str, chosen: Corpus, cache: str | Path | None) -> Path:
    told = json.dumps([[package.sha256 for package in chosen.packages], chosen.digest])
    home = default_cache() if cache is None else Path(cache).expanduser()
    return home / "fetched" / f"{name}-{hashlib.sha256(told.encode()).hexdigest()[:8]}"


def _build(name: str, chosen: Corpus, work: Path) -> None:
    packed, unpacked = work / "packed", work / "unpacked"
    with progress(f"downloading {name}", sum(package.size for package in chosen.packages)) as advance:
        files = [download(package, packed / package.name, advance) for package in chosen.packages]
    with progress(f"unpacking {name}", sum(file.stat().st_size for file in files)) as advance:
        for package, file in zip(chosen.packages, files, strict=True):
            unpack(file, unpacked / package.name)
            advance(float(file.stat().st_size))
    chosen.prepare(unpacked, work)
    _write_licences(unpacked, work / LICENCE)
    shutil.rmtree(packed)
    shutil.rmtree(unpacked)
    checksums = _checksums(work)
    if (made := _combined(checksums)) != chosen.digest:
        remedy = f"should be {chosen.digest}: the corpus was prepared differently here, and is not kept; report it"
        raise DataError(f"corpus {name}", made, remedy)
    (work / MANIFEST).write_text(json.dumps(checksums, indent=1))


def _load(chosen: Corpus, folder: Path) -> Path | None:
    """The folder, or `None` if it is absent or damaged."""
    try:
        whole = json.loads((folder / MANIFEST).read_text()) == _checksums(folder)
    except (OSError, ValueError):
        return None
    return folder if whole and digest(folder) == chosen.digest else None


def _checksums(folder: Path) -> dict[str, str]:
    """The checksum of every document, by its path."""
    files = [path for side in (TRAIN, VALIDATION) for path in sorted((folder / side).rglob("*")) if path.is_file()]
    return {path.relative_to(folder).as_posix(): sha256(path) for path in files}


def _combined(checksums: dict[str, str]) -> str:
    lines = "".join(f"{sha}  {path}\n" for path, sha in sorted(checksums.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def _write_licences(unpacked: Path, path: Path) -> None:
    found = sorted({file for pattern in _LEGAL for file in unpacked.rglob(pattern) if file.is_file()})
    texts = [f"=== {file.relative_to(unpacked)} ===\n\n{file.read_text('utf-8', 'replace')}" for file in found]
    path.write_text("\n\n".join(texts), encoding="utf-8")
