"""Copying, selective copying and induction heads, in text and on token ids.

Sources: copying and selective copying after `torch_copying_data` of S4 (Gu et al. 2022, arXiv 2111.00396), the latter
as in Mamba (Gu & Dao 2023, arXiv 2312.00752), appendix E.1, as are induction heads (after Olsson et al. 2022).

On ids: 0 is noise, V - 1 a marker, the others are data. Copying and selective copying end with as many markers as
there are data, at each of which one datum is to be answered; in an induction task the marker stands twice, and what
followed it the first time is to be answered the second.

Legend: B rows, T positions, M data.
"""

from __future__ import annotations

import numpy as np

from everlong.core.config import check
from everlong.core.errors import ContextError
from everlong.data import IGNORED
from everlong.evaluate.suites.example import Example, Suite
from everlong.evaluate.suites.tasks import Drawn, Task

_LETTERS = np.array(list("abcdefghijklmnopqrstuvwxyz"))


class Copying(Suite):
    """A string stands once between angle brackets, among letters."""

    data: int = 16
    """Letters to be copied."""

    def __post_init__(self) -> None:
        check(self.data >= 1, "copying.data", self.data, "must be at least 1")

    @property
    def chance(self) -> float:
        return 26.0**-self.data

    def build(self, generator: np.random.Generator, filler: int, depth: float) -> Example:
        gold, noise = _text(generator, self.data), _text(generator, filler)
        before = round(depth * filler)
        text = f"What is written between < and >?\n{noise[:before]}<{gold}>{noise[before:]}\nIt is <"
        return Example((text.encode(), f"{gold}>".encode()), (gold,), r"[a-z]+", depth)


class SelectiveCopying(Suite):
    """Letters stand at random places among dots."""

    data: int = 16
    """Letters to be copied, in their order."""

    def __post_init__(self) -> None:
        check(self.data >= 1, "selective_copying.data", self.data, "must be at least 1")

    @property
    def chance(self) -> float:
        return 26.0**-self.data

    def build(self, generator: np.random.Generator, filler: int, depth: float) -> Example:
        gold, line = _text(generator, self.data), np.full(self.data + filler, ".")
        line[np.sort(generator.choice(len(line), self.data, replace=False))] = list(gold)
        text = f"Which letters stand among the dots?\n{''.join(line)}\nIn order: <"
        return Example((text.encode(), f"{gold}>".encode()), (gold,), r"[a-z]+")


class Induction(Suite):
    """Random letters; which one came after the only mark?"""

    @property
    def chance(self) -> float:
        return 1 / 26

    def build(self, generator: np.random.Generator, filler: int, depth: float) -> Example:
        text, place = _text(generator, filler + 2), 1 + round(depth * filler)
        marked = f"{text[:place]}#{text[place:]}#"
        return Example((marked.encode(), text[place].encode()), (text[place],), r"[a-z]", depth)


class CopyingTask(Task):
    """Data, noise, markers. The vocabulary holds noise, data and marker."""

    vocabulary: int = 16
    data: int = 16
    """M; the window needs twice as many positions."""

    def __post_init__(self) -> None:
        _check_vocabulary(self.vocabulary)
        check(self.data >= 1, "copying.data", self.data, "must be at least 1")

    @property
    def chance(self) -> float:
        return 1 / (self.vocabulary - 2)

    def draw(self, generator: np.random.Generator, rows: int, window: int) -> Drawn:
        M = self.data
        _check_window(window, 2 * M)
        ids_BT = np.zeros((rows, window), dtype=np.int64)
        targets_BT = np.full((rows, window), IGNORED)
        data_BM = generator.integers(1, self.vocabulary - 1, size=(rows, M))
        np.put_along_axis(ids_BT, self.places(generator, rows, window - M), data_BM, axis=1)
        ids_BT[:, -M:], targets_BT[:, -M:] = self.vocabulary - 1, data_BM
        return Drawn(ids_BT, targets_BT)

    def places(self, generator: np.random.Generator, rows: int, room: int) -> np.ndarray:
        """Where the data stand: (rows, M), rising."""
        return np.tile(np.arange(self.data), (rows, 1))


class SelectiveCopyingTask(CopyingTask):
    """Data at random places among noise, then markers."""

    def places(self, generator: np.random.Generator, rows: int, room: int) -> np.ndarray:
        return np.sort(np.stack([generator.choice(room, self.data, replace=False) for _ in range(rows)]), axis=1)


class InductionTask(Task):
    """Random data; the marker at a random place and at the end, where the answer is due."""

    vocabulary: int = 16

    def __post_init__(self) -> None:
        _check_vocabulary(self.vocabulary)

    @property
    def chance(self) -> float:
        return 1 / (self.vocabulary - 2)

    def draw(self, generator: np.random.Generator, rows: int, window: int) -> Drawn:
        _check_window(window, 3)
        ids_BT = generator.integers(1, self.vocabulary - 1, size=(rows, window))
        targets_BT = np.full((rows, window), IGNORED)
        place_B = generator.integers(window - 2, size=rows)
        targets_BT[:, -1] = ids_BT[np.arange(rows), place_B + 1]
        ids_BT[np.arange(rows), place_B] = ids_BT[:, -1] = self.vocabulary - 1
        return Drawn(ids_BT, targets_BT)


def _text(generator: np.random.Generator, size: int) -> str:
    return "".join(_LETTERS[generator.integers(26, size=size)])


def _check_vocabulary(vocabulary: int) -> None:
    check(vocabulary >= 4, "task.vocabulary", vocabulary, "must be at least 4: noise, two data, and the marker")


def _check_window(window: int, least: int) -> None:
    if window < least:
        raise ContextError("window", window, f"is too short for this task: the smallest is {least}")
