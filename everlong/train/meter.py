"""The meter sums up steps, and makes a record of every interval."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from everlong.train.callbacks import Callback
from everlong.train.progress import Record, Step, bits_per_byte


@dataclass
class Interval:
    """Sums over the steps since the last record."""

    updates: int = 0
    nats: float = 0.0
    targets: int = 0
    bytes: int = 0
    gradient_norm: float = 0.0
    seconds: float = 0.0
    compute_seconds: float = 0.0
    auxiliary: dict[str, float] = field(default_factory=dict)
    observed: dict[str, float] = field(default_factory=dict)

    def add(self, step: Step) -> None:
        """Takes in a step. Of a skipped one only the time counts: its numbers may be infinite."""
        self.seconds += step.seconds
        self.compute_seconds += step.compute_seconds
        if not step.skipped:
            self.updates += 1
            self.nats += step.nats
            self.targets += step.targets
            self.bytes += step.bytes
            self.gradient_norm += step.gradient_norm
            accumulate(self.auxiliary, step.auxiliary)
            accumulate(self.observed, step.observed)


def accumulate(sums: dict[str, float], values: Mapping[str, float]) -> None:
    """Adds named values to named sums."""
    for name, value in values.items():
        sums[name] = sums.get(name, 0.0) + value


class Meter(Callback):
    """Makes a record of kind "train" of every `every` updates, and of the last.

    Args:
        every: updates between records.
        flops: of one update: three times the forward FLOPs that the model declares for the batch, as the backward
            takes two products for each of the forward's. What is recomputed does not count.
        roofline: FLOP/s that the machine could do; utilisation is measured against it, if it is known.
    """

    def __init__(self, every: int, flops: int, roofline: float | None = None) -> None:
        self.every, self.flops, self.roofline = every, flops, roofline
        self.interval = Interval()

    def on_step(self, step: Step) -> Record | None:
        self.interval.add(step)
        if step.skipped or (step.step % self.every and step.step < step.steps):
            return None
        record = self._record(step)
        self.interval = Interval()
        return record

    def state_dict(self) -> dict[str, Any]:
        return asdict(self.interval)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.interval = Interval(**state)

    def _record(self, step: Step) -> Record:
        sums = self.interval
        rate = self.flops * sums.updates / sums.seconds
        return {
            "kind": "train",
            "step": step.step,
            "bits_per_byte": bits_per_byte(sums.nats, sums.bytes),
            "nats_per_token": sums.nats / max(1, sums.targets),
            **{f"auxiliary_{name}": value / sums.updates for name, value in sums.auxiliary.items()},
            **{name: value / sums.updates for name, value in sums.observed.items()},
            "gradient_norm": sums.gradient_norm / sums.updates,
            "learning_rate": step.learning_rate,
            "bytes_seen": step.bytes_seen,
            "bad_steps": step.bad_steps,
            "bytes_per_second": sums.bytes / sums.seconds,
            "flops_per_second": rate,
            **({} if self.roofline is None else {"utilisation": rate / self.roofline}),
            "compute_share": sums.compute_seconds / sums.seconds,
            "seconds": sums.seconds,
        }
