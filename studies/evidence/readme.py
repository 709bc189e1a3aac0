"""The pieces of README.md that are written from results, each between its two marks."""

from __future__ import annotations

from studies.evidence.demo import demo
from studies.evidence.kept import Kept
from studies.evidence.systems import systems

PIECES = {"demo": demo, "systems": systems}


def readme(text: str, kept: Kept) -> str:
    """The page with its pieces written anew."""
    for name, piece in PIECES.items():
        text = put(text, name, piece(kept))
    return text


def put(text: str, name: str, piece: str) -> str:
    """A page with a piece between its marks."""
    begin, end = (f"<!-- {name}:{mark} -->" for mark in ("begin", "end"))
    before, _, rest = text.partition(begin)
    _, _, after = rest.partition(end)
    return f"{before}{begin}\n{piece}\n{end}{after}"
