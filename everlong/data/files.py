"""Which files a corpus consists of."""

from __future__ import annotations

import glob
import os
import sysconfig
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NoReturn

from everlong.core.errors import DataError

_NOT_SOURCES = frozenset({"site-packages", "dist-packages", "__pycache__"})


def expand(sources: str | Path | Sequence[str | Path]) -> list[Path]:
    """Files that are named, lie anywhere below a named folder, or match a glob (`**` included).

    Below folders, as in globs, names that begin with a dot are left out (`.git` is no text). A file that is
    reached twice counts once. The order is that of the absolute paths, so it does not depend on the order of
    `sources`.

    Raises:
        DataError: a source is nothing that can be read as files.
    """
    named = [sources] if isinstance(sources, str | Path) else sources
    found = sorted(file for source in named for file in _files(os.path.expanduser(source)))
    first: dict[str, Path] = {}
    for file in found:
        first.setdefault(os.path.realpath(file), file)
    return list(first.values())


def standard_library() -> list[Path]:
    """The default corpus, which every machine with Python has: the standard library's own `.py` sources.

    About 30 MB with its tests, 12 MB where a system does not install them. Installed packages are left out.

    Raises:
        DataError: this Python comes without sources.
    """
    folder = sysconfig.get_paths()["stdlib"]
    files = sorted(file for file in _below(folder, _NOT_SOURCES) if file.suffix == ".py")
    if not files:
        raise DataError("data", folder, "this Python comes without sources: name files of your own with --data")
    return files


def _files(source: str) -> list[Path]:
    """The files of one source."""
    files = list(_at(os.path.abspath(source)) if os.path.exists(source) else _matching(source))
    if not files:
        remedy = "gives no file: check the path and permissions (names that begin with a dot are left out)"
        raise DataError("data", source, remedy)
    return files


def _at(path: str) -> Iterator[Path]:
    """The file of that name, or the files below the folder of that name."""
    if os.path.isdir(path):
        yield from _below(path)
    elif os.path.isfile(path):  # and no pipe or device, which can be read but once
        yield Path(path)


def _matching(pattern: str) -> Iterator[Path]:
    """Files that a glob matches, or that lie below a folder it matches.

    Python's own `**` follows links in circles; so this one is matched against a walk that does not.
    """
    parts = Path(pattern).parts
    plain = parts.index("**") if "**" in parts else len(parts)
    for match in glob.glob(str(Path(*parts[:plain]))):
        place = os.path.abspath(match)
        yield from (file for file in _at(place) if _fits(file.relative_to(place).parts, parts[plain:]))


def _fits(names: tuple[str, ...], pattern: tuple[str, ...]) -> bool:
    """Whether a pattern fits a path or a folder above it."""
    if not pattern:
        return True
    if pattern[0] == "**":
        return any(_fits(names[i:], pattern[1:]) for i in range(len(names) + 1))
    return bool(names) and fnmatchcase(names[0], pattern[0]) and _fits(names[1:], pattern[1:])


def _below(folder: str, skip: frozenset[str] = frozenset()) -> Iterator[Path]:
    """Visible files below a folder, through symbolic links too, each real folder once."""
    seen: set[str] = set()
    for root, folders, names in os.walk(folder, followlinks=True, onerror=_refuse):
        if os.path.realpath(root) in seen:  # a link leads back to where we have been
            folders.clear()
            continue
        seen.add(os.path.realpath(root))
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in skip)
        paths = (os.path.join(root, name) for name in names if not name.startswith("."))
        yield from (Path(path) for path in paths if os.path.isfile(path))


def _refuse(error: OSError) -> NoReturn:
    """`os.walk` would leave out folders that it cannot read, without a word."""
    raise DataError("data", error.filename, f"cannot be listed ({error.strerror}): check its permissions") from error
