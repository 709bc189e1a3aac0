"""How numbers and tables look on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_WIDE = 200
"""Columns of a line that goes to a file or a pipe."""


def show(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Prints a table. A column whose title begins with `>` holds numbers, and is set to the right."""
    table = Table(box=None, header_style="dim", pad_edge=False, padding=(0, 3, 0, 0))
    for column in columns:
        justify, whole = ("right", True) if column.startswith(">") else ("left", column == columns[0])
        table.add_column(column.removeprefix(">"), justify=justify, no_wrap=whole, overflow="fold")
    for row in rows:
        table.add_row(*map(escape, row))
    width = None if sys.stdout.isatty() else _WIDE
    Console(highlight=False, width=width).print(table)


def say(text: str = "") -> None:
    """Prints a line of the result, as it is."""
    Console(highlight=False, markup=False, soft_wrap=True).print(text)


def note(text: str) -> None:
    """Prints a line beside the result, on stderr."""
    Console(stderr=True, highlight=False, markup=False, soft_wrap=True, style="dim").print(text)


def memory(size: int) -> str:
    """Bytes in three digits and a binary prefix: `3 MiB`."""
    power = next((p for p in range(len(_UNITS)) if size < 1000 * 1024**p), len(_UNITS) - 1)
    return f"{size / 1024**power:.3g} {_UNITS[power]}"


def with_error(value: float, error: float | None) -> str:
    """A number and its standard error, if it has one."""
    return f"{value:.3f}" if error is None else f"{value:.3f} ± {error:.3f}"
