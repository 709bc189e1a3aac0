"""A file of any length as a few hundred equal stretches, summed up while its scores pass by.

Legend: N tokens of a piece, S stretches.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

QUANTILES = (0.1, 0.9)


class Stretch(NamedTuple):
    """Bits per byte in one stretch of a file."""

    start: int
    """Place of its first byte."""
    bytes: int
    mean: float
    low: float
    """10 % of its tokens take less than this."""
    high: float
    """10 % of its tokens take more than this."""


class Stretches:
    """Collects pieces of dtype `generate.SURPRISAL`, in order; holds one stretch's tokens at a time.

    Args:
        size: bytes of the file.
        most: S at most.
    """

    def __init__(self, size: int, most: int = 300) -> None:
        self.width = max(1, -(-size // most))
        """Bytes of a stretch, up to the token that reaches over its end."""
        self._done: list[Stretch] = []
        self._open: list[np.ndarray] = []

    def add(self, piece: np.ndarray) -> None:
        """Takes in the scores of N tokens."""
        real = piece[piece["length"] > 0]
        stretch_N = real["offset"] // self.width
        for part in np.split(real, np.flatnonzero(np.diff(stretch_N)) + 1):
            if self._open and len(part) and part["offset"][0] // self.width != self._open[0]["offset"][0] // self.width:
                self._close()
            if len(part):
                self._open.append(part)

    def finish(self) -> list[Stretch]:
        """All stretches, when every piece was added."""
        if self._open:
            self._close()
        return self._done

    def _close(self) -> None:
        tokens = np.concatenate(self._open)
        low, high = np.quantile(tokens["bits"] / tokens["length"], QUANTILES)
        size = int(tokens["length"].sum())
        mean = float(tokens["bits"].sum()) / size
        self._done.append(Stretch(int(tokens["offset"][0]), size, mean, float(low), float(high)))
        self._open = []
