"""Layer patterns: the layers of a hybrid as a short string.

    pattern = item*          item = (letter | "(" pattern ")") count?          count = 1, 2, ...

Whitespace means nothing. So `"M M M A" * 2`, `"M3A M3A"` and `"(M3A)2"` are the same eight layers. The letters are
those of a mapping to configurations; H-Net's layouts (Hwang et al. 2025, arXiv 2507.07955), such as `m4T1`, are read
with the four of `HNET`.
"""

from __future__ import annotations

from collections.abc import Mapping

from everlong.core.config import suggest
from everlong.core.errors import ConfigError
from everlong.core.part import Part
from everlong.model.stack import Stack

HNET = {
    "m": "Mamba-2 without a feed-forward",
    "M": "Mamba-2 and a feed-forward",
    "t": "attention without a feed-forward",
    "T": "attention and a feed-forward",
}
"""H-Net's letters, and the layers that they stand for."""


def layers(pattern: str, letters: Mapping[str, object]) -> tuple[str, ...]:
    """The letters of a pattern's layers, from input to output.

    Args:
        letters: the known letters; only the keys are read.

    Raises:
        ConfigError: no layers, an unknown letter, a count of 0 or without a layer, or parentheses that do not match;
            it shows the place in the pattern.
    """
    found, end = _sequence(pattern, 0, letters)
    if end < len(pattern):
        raise _error(pattern, end, 'closes nothing: remove it, or write "(" before the group')
    if not found:
        raise ConfigError("pattern", pattern, f"holds no layers; write letters out of {', '.join(letters)}")
    return tuple(found)


def stack(pattern: str, parts: Mapping[str, Part.Config]) -> Stack.Config:
    """The stack of a pattern.

    Args:
        parts: what each letter stands for, all of one width.

    Raises:
        ConfigError: as `layers`.
    """
    blocks = tuple(parts[letter] for letter in layers(pattern, parts))
    return Stack.Config(width=blocks[0].width, blocks=blocks)


def _sequence(pattern: str, at: int, letters: Mapping[str, object]) -> tuple[list[str], int]:
    """The layers from `at` on, up to the end or to a closing parenthesis, and the place of either."""
    found: list[str] = []
    while (at := _skip(pattern, at)) < len(pattern) and pattern[at] != ")":
        item, after = _item(pattern, at, letters)
        count, at = _count(pattern, after)
        found += item * count
    return found, at


def _item(pattern: str, at: int, letters: Mapping[str, object]) -> tuple[list[str], int]:
    """One letter or group, and the place behind it."""
    if pattern[at] == "(":
        inner, end = _sequence(pattern, at + 1, letters)
        if end == len(pattern):
            raise _error(pattern, at, 'is never closed: write ")" behind the group')
        if not inner:
            raise _error(pattern, at, "opens a group of no layers: write letters in it, or remove it")
        return inner, end + 1
    if pattern[at].isdecimal():
        raise _error(pattern, at, "counts nothing: a count stands behind a letter or a group")
    if pattern[at] not in letters:
        raise _error(pattern, at, f"is no layer; {suggest(pattern[at], letters)}")
    return [pattern[at]], at + 1


def _count(pattern: str, at: int) -> tuple[int, int]:
    """The count at a place, 1 if there is none, and the place behind it."""
    begin = end = _skip(pattern, at)
    while end < len(pattern) and pattern[end].isdecimal():
        end += 1
    if begin == end:
        return 1, at
    if not (count := int(pattern[begin:end])):
        raise _error(pattern, begin, "is no count: write 1 or more, or remove the layer")
    return count, end


def _skip(pattern: str, at: int) -> int:
    """The first place from `at` on that is no whitespace."""
    while at < len(pattern) and pattern[at].isspace():
        at += 1
    return at


def _error(pattern: str, at: int, remedy: str) -> ConfigError:
    """An error at one place of a pattern, which it shows by an arrow."""
    marked = f"{pattern[:at]}→{pattern[at:]}"
    return ConfigError("pattern", marked, f"{pattern[at]!r}, character {at + 1}, {remedy}")
