"""Tasks: rows of token ids and what is to be answered where. Any suite is one, with a codec; some are on ids alone.

Every draw is from its own generator, so a loader of tasks resumes exactly, and its batches are those that a trainer
takes.

Legend: B rows, T positions (the window).
"""

from __future__ import annotations

import itertools
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Int64

from everlong.core.config import Config, check
from everlong.core.errors import CheckpointError
from everlong.data import IGNORED, Batch, Codec
from everlong.evaluate.suites.example import Draft, Suite, check_room


class Drawn(NamedTuple):
    """Rows of a task."""

    ids_BT: Int64[np.ndarray, "b t"]
    targets_BT: Int64[np.ndarray, "b t"]
    """What is to be answered at each position; `IGNORED` where nothing is."""


class Task(Config):
    """A task on token ids."""

    vocabulary: int
    """V, the ids that occur."""

    @property
    @abstractmethod
    def chance(self) -> float:
        """The accuracy of a guess that knows which ids are answers."""

    @abstractmethod
    def draw(self, generator: np.random.Generator, rows: int, window: int) -> Drawn:
        """Rows of a length.

        Raises:
            ContextError: the window is too short; the smallest is told.
        """


@dataclass(frozen=True)
class TextTask:
    """A suite as a task: its examples in a codec's ids, filled up with padding; only answers are to be learnt."""

    suite: Suite
    codec: Codec

    @property
    def vocabulary(self) -> int:
        return self.codec.vocabulary

    @property
    def chance(self) -> float:
        return self.suite.chance

    def draw(self, generator: np.random.Generator, rows: int, window: int) -> Drawn:
        """As `Task.draw`."""
        ids_BT = np.full((rows, window), self.codec.pad)
        targets_BT = np.full((rows, window), IGNORED)
        for ids_T, targets_T in zip(ids_BT, targets_BT, strict=True):
            key, depth = int(generator.integers(2**32)), float(generator.random())
            draft = Draft(self.suite, self.codec, window, (key,), depth)
            check_room([draft])
            example = draft.fitted()
            parts = [np.array([self.codec.bos]), *map(self.codec.encode, example.parts)]
            row = np.concatenate(parts)
            answers = np.concatenate([np.full(len(part), i > 0 and i % 2 == 0) for i, part in enumerate(parts)])
            ids_T[: len(row)] = row
            targets_T[: len(row) - 1] = np.where(answers, row, IGNORED)[1:]
        return Drawn(ids_BT, targets_BT)


class TaskLoader(Iterator[Batch]):
    """Batches of a task without end, each drawn from its own number; it stands in for a `Loader`.

    Args:
        task: what is drawn.
        window: T, positions of a row.
        batch: B, rows of a batch.
        seed: which of the random sequences to take.
    """

    carry = False
    """Every row is a document of its own."""

    def __init__(self, task: Task | TextTask, *, window: int, batch: int, seed: int) -> None:
        for name, value, least in (("window", window, 1), ("batch", batch, 1), ("seed", seed, 0)):
            check(value >= least, f"loader.{name}", value, f"must be {least} or more")
        self.task, self.window, self.batch, self.seed, self.step = task, window, batch, seed, 0

    def __next__(self) -> Batch:
        generator = np.random.Generator(np.random.PCG64([self.seed, self.step]))
        self.step += 1
        ids_BT, targets_BT = map(torch.from_numpy, self.task.draw(generator, self.batch, self.window))
        return Batch(ids_BT, targets_BT, None, self._bytes(targets_BT), fresh=True)

    def state_dict(self) -> dict[str, Any]:
        """Which batch is next, and of what: plain JSON values."""
        return {"step": self.step, **self._identity()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues with the batch that was next when `state` was taken.

        Raises:
            CheckpointError: the state is damaged, or of another task or setting.
        """
        for name, own in self._identity().items():
            if state.get(name) != own:
                raise CheckpointError(f"loader.{name}", state.get(name), f"is {own!r} here: resume as you began")
        step = state.get("step")
        if type(step) is not int or step < 0:
            raise CheckpointError("loader.step", step, "is no place in a sequence: take another checkpoint")
        self.step = step

    def _identity(self) -> dict[str, Any]:
        """What must be the same for a state to mean the same."""
        return {"task": repr(self.task), "window": self.window, "batch": self.batch, "seed": self.seed}

    def _bytes(self, targets_BT: torch.Tensor) -> torch.Tensor:
        """True bytes that each row's answers stand for; on bare ids, each counts as one."""
        learnt_BT = targets_BT != IGNORED
        if isinstance(self.task, TextTask):
            lengths_V = torch.from_numpy(self.task.codec.byte_lengths())
            return (lengths_V[targets_BT.clamp(min=0)] * learnt_BT).sum(1)
        return learnt_BT.sum(1)


def batches(task: Task | TextTask, *, window: int, batch: int, seed: int, count: int) -> Iterator[Batch]:
    """The first batches of a task."""
    return itertools.islice(TaskLoader(task, window=window, batch=batch, seed=seed), count)
