"""How far a run has come: what one step did, what all of them did, and how the run ended."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from everlong.data import Batch

Record = dict[str, float | int | str]
"""A line of the metrics: `kind` ("train" or "validation"), `step`, and named numbers."""


@dataclass(frozen=True)
class Update:
    """What a batch came to, and whether the weights learnt from it."""

    nats: float
    """Surprisal, summed over the learnt targets."""
    gradient_norm: float
    """Before clipping."""
    auxiliary: dict[str, float]
    """The model's own losses."""
    observed: dict[str, float]
    """Means of what the model showed."""
    learning_rate: float
    """The base rate, as scheduled."""
    skipped: bool
    """Whether a loss or the gradient was not finite, so that the weights were left alone."""


@dataclass(frozen=True)
class Step(Update):
    """An update, what it cost, and how far the run has come with it."""

    targets: int
    """Learnt targets of the batch."""
    bytes: int
    """True bytes that they stand for."""
    seconds: float
    """Wall time since the step before ended, whatever was done in it."""
    compute_seconds: float
    """Of that: forward, backward and optimizer."""
    step: int
    """Updates of the weights so far."""
    steps: int
    """Updates that the run will make."""
    bytes_seen: int
    """True bytes learnt from so far."""
    bad_steps: int
    """Batches skipped so far."""


@dataclass
class Progress:
    """Sums over all steps of a run, interrupted or not. It is part of every checkpoint."""

    step: int = 0
    """Updates of the weights."""
    bytes_seen: int = 0
    """True bytes that were learnt from."""
    seconds: float = 0.0
    compute_seconds: float = 0.0
    bad_steps: int = 0
    """Batches that were skipped."""
    bad_in_a_row: int = 0
    """Batches that were skipped since the last update."""
    records: dict[str, Record] = field(default_factory=dict)
    """The last record of each kind."""

    def count(self, update: Update, batch: Batch, seconds: float, compute_seconds: float) -> None:
        """Takes in an update."""
        self.seconds += seconds
        self.compute_seconds += compute_seconds
        if update.skipped:
            self.bad_steps += 1
            self.bad_in_a_row += 1
        else:
            self.step += 1
            self.bad_in_a_row = 0
            self.bytes_seen += batch.byte_count


@dataclass(frozen=True)
class Result:
    """How a run ended."""

    step: int
    """Updates made, over all the times that the run was resumed."""
    loss: float
    """Bits per byte of the last interval that was logged; NaN if none was."""
    validation_loss: float | None
    """Bits per byte on the held-out windows, if they were looked at."""
    bytes_seen: int
    """True bytes that were learnt from."""
    seconds: float
    """Wall time of the training loop, with all that it waited for."""
    compute_share: float
    """Share of that time in forward, backward and optimizer."""
    bad_steps: int
    """Batches that were skipped since loss or gradient were not finite."""
    interrupted: int | None
    """The signal that ended the run early, after which it was saved; `None` if it ran to its end."""

    @classmethod
    def of(cls, progress: Progress, interrupted: int | None) -> Result:
        """The result that `progress` amounts to."""
        trained, held_out = (progress.records.get(kind, {}) for kind in ("train", "validation"))
        validation = held_out.get("bits_per_byte")
        return cls(
            step=progress.step,
            loss=float(trained.get("bits_per_byte", math.nan)),
            validation_loss=None if validation is None else float(validation),
            bytes_seen=progress.bytes_seen,
            seconds=progress.seconds,
            compute_share=progress.compute_seconds / progress.seconds if progress.seconds else 0.0,
            bad_steps=progress.bad_steps,
            interrupted=interrupted,
        )


def bits_per_byte(nats: float, byte_count: int) -> float:
    """Nats over a number of bytes as bits per byte; NaN for none."""
    return nats / math.log(2) / byte_count if byte_count else math.nan
