"""Learning-rate schedules: pure functions of the step and the number of steps.

Every schedule rises linearly over the first `warmup` share of the steps. With p in [0, 1) the share of the other
steps that is done, and f the floor, it then is f + (1 - f) times

    cosine    (1 + cos(pi p)) / 2             (Loshchilov & Hutter 2017, arXiv 1608.03983, eq. 5)
    linear    1 - p
    WSD       min(1, (1 - p) / decay)         (warm-up, stable, decay: Hu et al. 2024, arXiv 2404.06395; its
                                               linear form: Hägele et al. 2024, arXiv 2405.18392, eq. 1)
"""

from __future__ import annotations

import math

from everlong.core.config import Config, check


class Schedule(Config):
    """What the learning rate is multiplied by."""

    warmup: float = 0.05
    """Share of all steps over which the rate rises."""
    floor: float = 0.0
    """The factor that the schedule comes down to."""

    def __post_init__(self) -> None:
        check(0 <= self.warmup < 1, "schedule.warmup", self.warmup, "is a share of the steps: 0 or more, below 1")
        check(0 <= self.floor <= 1, "schedule.floor", self.floor, "is a factor of the learning rate: from 0 to 1")

    def factor(self, step: int, steps: int) -> float:
        """The factor of update `step`, counted from 0, of `steps`: above 0, at most 1."""
        rising = round(self.warmup * steps)
        if step < rising:
            return (step + 1) / rising
        return self.floor + (1 - self.floor) * self.shape((step - rising) / (steps - rising))

    def shape(self, progress: float) -> float:
        """The curve behind the warm-up: from 1 at `progress` 0 towards 0 at 1."""
        raise NotImplementedError


class Cosine(Schedule):
    """Half a cosine."""

    def shape(self, progress: float) -> float:
        return (1 + math.cos(math.pi * progress)) / 2


class Linear(Schedule):
    """A straight line."""

    def shape(self, progress: float) -> float:
        return 1 - progress


class WSD(Schedule):
    """Warm-up, stable, decay."""

    decay: float = 0.2
    """Share of the steps behind the warm-up over which the rate comes down."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(0 < self.decay <= 1, "schedule.decay", self.decay, "is a share of the steps: above 0, at most 1")

    def shape(self, progress: float) -> float:
        return min(1.0, (1 - progress) / self.decay)
