"""Intervals are what their formula says, and cover the truth as often as they claim."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from everlong.core.errors import ConfigError
from everlong.lab.statistics import Interval, interval

TRUTH = 0.02
SETTINGS = [
    (seeds, by_seed, by_document, by_both)
    for seeds in (3, 5)
    for by_seed in (0.0, 0.01, 0.03)
    for by_document in (0.05, 0.2)
    for by_both in (0.0, 0.03, 0.1)
]
"""Seeds, and the standard deviations of the difference over seeds, documents, and both at once."""


def drawn(random, seeds, by_seed, by_document, by_both, documents=60):
    """Differences of bits and the bytes of documents, whose true ratio is `TRUTH`."""
    bytes_D = np.minimum(random.lognormal(8, 1, documents), 8192).round().astype(np.int64)
    rate_SD = TRUTH + by_seed * random.standard_normal((seeds, 1)) + by_document * random.standard_normal(documents)
    return (rate_SD + by_both * random.standard_normal((seeds, documents))) * bytes_D, bytes_D


def percentile_bootstrap(bits_SD, bytes_D, random):
    """The usual hierarchical one: seeds and documents drawn anew, quantiles of the ratio."""
    S, D = bits_SD.shape
    draws = [(random.integers(S, size=S), random.integers(D, size=D)) for _ in range(200)]
    low, high = np.quantile([bits_SD[np.ix_(s, d)].sum() / S / bytes_D[d].sum() for s, d in draws], [0.025, 0.975])
    return Interval(0.0, low, high)


def coverage(method, setting, repeats):
    random, covered = np.random.default_rng(0), 0
    for _ in range(repeats):
        found = method(*drawn(random, *setting), random)
        covered += found.low <= TRUTH <= found.high
    return covered / repeats


def own(bits_SD, bytes_D, random):
    return interval(bits_SD, bytes_D)


def test_one_number_a_seed_gives_students_interval():
    bits_SD = np.array([[2.0, 2.0], [3.0, 3.0], [4.0, 4.0]])
    found = interval(bits_SD, np.array([1, 1]))
    half = stats.t.ppf(0.975, 2) * 1 / math.sqrt(3)
    assert (found.low, found.estimate, found.high) == pytest.approx((3 - half, 3, 3 + half))


def test_equal_seeds_give_the_interval_over_documents():
    from everlong.evaluate import ratio

    bits_D, bytes_D = np.array([3.0, 9.0, 4.0, 20.0]), np.array([2, 5, 4, 8])
    found = interval(np.tile(bits_D, (3, 1)), bytes_D)
    estimate, error = ratio(bits_D, bytes_D)
    assert error is not None
    assert found.estimate == pytest.approx(estimate)
    assert found.high - found.estimate == pytest.approx(stats.t.ppf(0.975, 3) * error)


def test_equal_models_differ_by_nothing():
    found = interval(np.zeros((3, 4)), np.array([1, 2, 3, 4]))
    assert found == Interval(0.0, 0.0, 0.0)
    assert found.verdict == "no difference shown"


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (-2.0, -1.0, "lower"),
        (1.0, 2.0, "higher"),
        (-1.0, 1.0, "no difference shown"),
        (0.0, 1.0, "no difference shown"),
    ],
)
def test_the_verdict(low, high, verdict):
    assert Interval(0.0, low, high).verdict == verdict


@pytest.mark.parametrize("shape", [(1, 5), (3, 1)])
def test_too_little_is_refused(shape):
    with pytest.raises(ConfigError, match="at least 2"):
        interval(np.ones(shape), np.ones(shape[1], dtype=np.int64))


@pytest.mark.parametrize("setting", SETTINGS[::5])
def test_intervals_cover_the_truth(setting):
    assert 0.90 <= coverage(own, setting, 500) <= 0.985


@pytest.mark.slow
@pytest.mark.parametrize("setting", SETTINGS)
def test_intervals_cover_the_truth_in_many_repetitions(setting):
    measured = coverage(own, setting, 4000)
    print(f"{setting}: {measured:.3f}")  # noqa: T201  # the numbers of docs/lab.md
    assert 0.90 <= measured <= 0.98


def test_a_percentile_bootstrap_over_three_seeds_would_be_caught():
    assert coverage(percentile_bootstrap, (3, 0.03, 0.05, 0.0), 100) < 0.90


def test_forgetting_the_documents_would_be_caught():
    def over_seeds(bits_SD, bytes_D, random):
        ratio_S = bits_SD.sum(1) / bytes_D.sum()
        half = stats.t.ppf(0.975, len(ratio_S) - 1) * ratio_S.std(ddof=1) / math.sqrt(len(ratio_S))
        return Interval(ratio_S.mean(), ratio_S.mean() - half, ratio_S.mean() + half)

    assert coverage(over_seeds, (3, 0.01, 0.2, 0.0), 300) < 0.90
