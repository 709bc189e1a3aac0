"""Results on the disk: whole or absent, and never over someone else's work."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from everlong.core.errors import DataError


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Gives a temporary file beside `path`. It takes the name `path` if the block ends well, else it vanishes.

    Raises:
        DataError: the file cannot be written (no such folder, no permission, no space).
    """
    path = Path(path)
    temporary: Path | None = None
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=path.suffix, dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        temporary.chmod(0o666 & ~_umask())  # mkstemp keeps others out
        os.replace(temporary, path)
    except OSError as error:
        raise DataError("output", str(path), f"cannot be written ({error.strerror or error})") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Writes a text file as UTF-8. Raises `DataError` as `replacing` does."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_bytes(path: str | Path, data: bytes) -> None:
    """Writes a file. Raises `DataError` as `replacing` does."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def write_json(path: str | Path, result: Mapping[str, Any]) -> None:
    """Writes a JSON file that a person can read. Raises `DataError` as `replacing` does."""
    write_text(path, json.dumps(result, indent=2, allow_nan=False) + "\n")


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask
