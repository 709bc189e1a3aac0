"""The pieces of a report as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from everlong.evaluate.report import Listing, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Drawing:
    """A figure that goes into a page, or beside a text."""

    title: str
    figure: Figure
    caption: str
    slug: str
    """Its file's name, without ending."""


Piece = Drawing | Listing | Table


def markdown(title: str, lead: str, pieces: Sequence[Piece], footer: str) -> str:
    """The text of a report whose figures lie in `figures/`."""
    return "\n\n".join([f"# {title}", lead, *map(_piece, pieces), footer]) + "\n"


def _piece(piece: Piece) -> str:
    match piece:
        case Drawing():
            inside = f"![{piece.title}](figures/{piece.slug}.svg)"
        case Table():
            inside = _table(piece)
        case Listing():
            inside = f"<details><summary>Show</summary>\n\n```yaml\n{piece.text.rstrip()}\n```\n\n</details>"
    return f"## {piece.title}\n\n{piece.caption}\n\n{inside}"


def _table(table: Table) -> str:
    rule = ["---", *["---:"] * (len(table.columns) - 1)]
    return "\n".join(map(_line, [table.columns, rule, *table.rows]))


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(_cell(cell) for cell in cells)} |"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
