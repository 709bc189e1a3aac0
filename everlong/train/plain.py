"""Plain values (dictionaries, lists, strings, numbers): as YAML on disk, and where two trees of them differ."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from everlong.core.config import KIND
from everlong.core.errors import EverlongError


def write_yaml(values: dict[str, Any], path: Path) -> None:
    """Writes plain values, atomically."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=120), encoding="utf-8")
    os.replace(partial, path)


def read_yaml(path: Path) -> Any:
    """Reads what `write_yaml` wrote.

    Raises:
        OSError, yaml.YAMLError, UnicodeDecodeError: the file cannot be read.
    """
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def differences(one: Any, other: Any, field: str = "") -> Iterator[tuple[str, Any, Any]]:
    """The fields in which two trees of plain values differ, as `a.b[2].c`, with both values."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in dict.fromkeys([*one, *other]):
            yield from differences(one.get(key), other.get(key), f"{field}.{key}" if field else str(key))
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for i, (x, y) in enumerate(zip(one, other, strict=True)):
            yield from differences(x, y, f"{field}[{i}]")
    elif one != other:
        yield field, one, other


def check_same(theirs: Any, ours: Any, where: Path, error: type[EverlongError]) -> None:
    """Makes sure that the configuration found at `where` is ours.

    Raises:
        error: it is not; it names the first field that differs with both values, and the other fields.
    """
    found = list(differences(theirs, ours))
    if found:
        field, there, here = found[0]
        more = [name for name, _, _ in found[1:]]
        also = f"; {', '.join(more[:8])} differ too ({len(more)} fields)" if more else ""
        raise error(field, _brief(here), f"is {_brief(there)!r} in {where}: use another folder, or that value{also}")


def _brief(value: Any) -> Any:
    """A value that can stand in a message."""
    if isinstance(value, dict):
        return value.get(KIND, f"{len(value)} fields")
    return f"{len(value)} items" if isinstance(value, list) else value
