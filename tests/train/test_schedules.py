"""Schedules against values worked out by hand."""

from __future__ import annotations

import math

import pytest

from everlong.core.errors import ConfigError
from everlong.train import WSD, Cosine, Linear, Schedule


def factors(schedule: Schedule, steps: int) -> list[float]:
    return [schedule.factor(step, steps) for step in range(steps)]


def test_linear_rises_and_falls():
    assert factors(Linear(warmup=0.4), 10) == pytest.approx(
        [1 / 4, 1 / 2, 3 / 4, 1, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6]
    )


def test_cosine_is_half_a_cosine_down_to_its_floor():
    quarter = (1 + math.cos(math.pi / 4)) / 2
    expected = [1.0, 0.1 + 0.9 * quarter, 0.1 + 0.9 * 0.5, 0.1 + 0.9 * (1 - quarter)]
    assert factors(Cosine(warmup=0.0, floor=0.1), 4) == pytest.approx(expected)


def test_wsd_is_flat_until_its_decay():
    expected = [0.5, 1, 1, 1, 1, 1, 1, 0.75, 0.5, 0.25]
    assert factors(WSD(warmup=0.2, decay=0.5), 10) == pytest.approx(expected)


@pytest.mark.parametrize("schedule", [Linear(), Cosine(), WSD(), Cosine(warmup=0.9), Linear(floor=0.3), WSD(decay=1.0)])
@pytest.mark.parametrize("steps", [1, 2, 7, 1000])
def test_no_update_is_wasted_and_none_exceeds_the_base(schedule, steps):
    assert all(0 < factor <= 1 for factor in factors(schedule, steps))
    assert max(factors(schedule, steps)) == 1


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: Cosine(warmup=1.0), "schedule.warmup"),
        (lambda: Cosine(warmup=math.nan), "schedule.warmup"),
        (lambda: Linear(floor=-0.1), "schedule.floor"),
        (lambda: WSD(decay=0.0), "schedule.decay"),
        (lambda: WSD(floor=2.0), "schedule.floor"),
    ],
)
def test_impossible_shares_are_refused(make, field):
    with pytest.raises(ConfigError) as caught:
        make()
    assert caught.value.field == field
