"""Scaling laws: loss as a constant and power laws of what is scaled.

Legend: N points, K quantities, P = 1 + 2 K parameters, S resamples.

    L(x) = E + sum_k A_k / x_k^a_k                      (Hoffmann et al. 2022, arXiv 2203.15556, eq. 10, with K = 2)

Noise is taken to be relative, so logarithms are compared, under SciPy's soft L1 loss, which a few runs gone wrong do
not bend. For given exponents the rest is linear and non-negative: the starts are the best of a grid of exponents, each
with its linear solution. (The usual L-BFGS on a Huber loss of 1e-3 may not move from its start, and then tells
intervals that are far too narrow.)

Intervals are those of a bootstrap over residuals, which are scaled by sqrt(N / (N - P)) as the fit has made them
smaller than the noise; its quantiles are widened from a normal's to Student's. `tests/lab/test_scaling.py` measures
their coverage by simulation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np
from jaxtyping import Float64

from everlong.core.config import check
from everlong.lab.statistics import CONFIDENCE, Interval, require, students_t

EXPONENTS = np.linspace(0.05, 1.2, 12)
"""The grid of starts."""
STARTS = 6
"""Starts that are followed to their end."""
NORMAL_MEDIAN = 0.6745
"""The median distance of a standard normal from 0."""


@dataclass(frozen=True)
class Law:
    """A fitted law."""

    irreducible: Interval
    """E, the loss that is left at any scale."""
    exponents: dict[str, Interval]
    """a_k, by quantity."""
    coefficients: dict[str, Interval]
    """A_k, by quantity."""
    points: int
    theta_P: Float64[np.ndarray, " p"] = field(repr=False, compare=False)
    """log E, the exponents and the logarithms of the coefficients."""
    samples_SP: Float64[np.ndarray, "s p"] = field(repr=False, compare=False)
    """The same of every resample."""
    confidence: float

    def __call__(self, **quantities: float) -> float:
        """The loss that the law foretells."""
        return float(self._foretold(self.theta_P, {name: np.array([x]) for name, x in quantities.items()})[0])

    def band(self, quantities: Mapping[str, Float64[np.ndarray, " n"]]) -> Float64[np.ndarray, "3 n"]:
        """The loss that the law foretells, and the ends of its interval: where the law runs, not where a run falls."""
        log_N = np.log(self._foretold(self.theta_P, quantities))
        samples_SN = np.log([self._foretold(theta_P, quantities) for theta_P in self.samples_SP])
        freedom = self.points - len(self.theta_P)
        return np.exp([log_N, *_ends(log_N, samples_SN, freedom, self.confidence)])

    def _foretold(self, theta_P: np.ndarray, quantities: Mapping[str, np.ndarray]) -> np.ndarray:
        return _predict(theta_P, np.log([quantities[name] for name in self.exponents]))


def fit(
    loss_N: Float64[np.ndarray, " n"],
    quantities: Mapping[str, Float64[np.ndarray, " n"]],
    *,
    resamples: int = 200,
    seed: int = 0,
    confidence: float = CONFIDENCE,
) -> Law:
    """Fits a law; see the top of this file.

    Args:
        quantities: what was scaled, such as parameters, bytes or FLOPs; each takes at least three values.

    Raises:
        ConfigError: too few points or values, values that are not above 0, or SciPy is not installed.
    """
    require()
    _check(loss_N, quantities)
    x_KN = np.array(list(quantities.values()))
    centre_K = np.exp(np.log(x_KN).mean(1))
    log_KN = np.log(x_KN / centre_K[:, None])
    starts = _starts(log_KN, loss_N)
    scale = max(1e-9, float(np.median(np.abs(_residual(starts[0], log_KN, loss_N)))) / NORMAL_MEDIAN)
    theta_P = min((_refine(start, log_KN, loss_N, scale) for start in starts), key=lambda found: found[1])[0]
    random = np.random.default_rng(seed)
    samples_SP = _bootstrap(theta_P, log_KN, loss_N, scale, resamples, random)
    theta_P, samples_SP = _uncentred(theta_P[None], centre_K)[0], _uncentred(samples_SP, centre_K)
    each = _intervals(theta_P, samples_SP, len(loss_N), confidence)
    K = len(quantities)
    return Law(
        irreducible=each[0],
        exponents=dict(zip(quantities, each[1 : 1 + K], strict=True)),
        coefficients=dict(zip(quantities, each[1 + K :], strict=True)),
        points=len(loss_N),
        theta_P=theta_P,
        samples_SP=samples_SP,
        confidence=confidence,
    )


def _check(loss_N: np.ndarray, quantities: Mapping[str, np.ndarray]) -> None:
    least = 2 + 2 * len(quantities)
    check(len(loss_N) >= least, "points", len(loss_N), f"must be at least {least}, more than there are parameters")
    check(bool((loss_N > 0).all()), "loss", float(loss_N.min()), "must be above 0")
    for name, x_N in quantities.items():
        check(bool((x_N > 0).all()), name, float(x_N.min()), "must be above 0")
        remedy = "must take at least three values, or its exponent is not to be told"
        check(len(np.unique(x_N)) >= 3, name, sorted(set(x_N.tolist())), remedy)


def _predict(theta_P: np.ndarray, log_KN: np.ndarray) -> np.ndarray:
    """The loss; parameters are log E, the exponents, and the logarithms of the coefficients at the centre."""
    K = len(log_KN)
    exponent_K1, coefficient_K1 = theta_P[1 : 1 + K, None], theta_P[1 + K :, None]
    return np.exp(theta_P[0]) + np.exp(coefficient_K1 - exponent_K1 * log_KN).sum(0)


def _starts(log_KN: np.ndarray, loss_N: np.ndarray) -> list[np.ndarray]:
    from scipy.optimize import nnls

    found = []
    for exponents in product(EXPONENTS, repeat=len(log_KN)):
        powers_NK = np.exp(-np.array(exponents)[:, None] * log_KN).T
        solution, residual = nnls(np.column_stack([np.ones_like(loss_N), powers_NK]) / loss_N[:, None], loss_N / loss_N)
        positive = np.log(np.maximum(solution, 1e-3 * loss_N.min()))
        found.append((residual, np.concatenate([positive[:1], exponents, positive[1:]])))
    return [start for _, start in sorted(found, key=lambda item: item[0])[:STARTS]]


def _residual(theta_P: np.ndarray, log_KN: np.ndarray, loss_N: np.ndarray) -> np.ndarray:
    return np.log(_predict(theta_P, log_KN) / loss_N)


def _slope(theta_P: np.ndarray, log_KN: np.ndarray, loss_N: np.ndarray) -> np.ndarray:
    """Derivatives of the residuals by the parameters, (N, P)."""
    K, N = log_KN.shape
    terms_KN = np.exp(theta_P[1 + K :, None] - theta_P[1 : 1 + K, None] * log_KN)
    slope_PN = np.concatenate([np.full((1, N), np.exp(theta_P[0])), -terms_KN * log_KN, terms_KN])
    return (slope_PN / _predict(theta_P, log_KN)).T


def _refine(start_P: np.ndarray, log_KN: np.ndarray, loss_N: np.ndarray, scale: float) -> tuple[np.ndarray, float]:
    """Follows a start to its end; gives parameters and cost. Residuals beyond twice the scale count linearly."""
    from scipy.optimize import least_squares

    slope: Any = _slope  # SciPy's annotation forgets that a function may be given
    with np.errstate(over="ignore"):  # a step that goes too far is infinitely wrong, and taken back
        found = least_squares(
            _residual, start_P, jac=slope, loss="soft_l1", f_scale=2 * scale, x_scale="jac", args=(log_KN, loss_N)
        )  # fmt: skip
    return found.x, float(found.cost)


def _bootstrap(
    theta_P: np.ndarray,
    log_KN: np.ndarray,
    loss_N: np.ndarray,
    scale: float,
    resamples: int,
    random: np.random.Generator,
) -> np.ndarray:
    """Parameters that were fitted to the law with residuals drawn anew, (S, P)."""
    fitted_N, N, P = _predict(theta_P, log_KN), len(loss_N), len(theta_P)
    residual_N = np.log(loss_N / fitted_N)
    residual_N = (residual_N - residual_N.mean()) * np.sqrt(N / (N - P))
    draws = (random.choice(residual_N, N) for _ in range(resamples))
    return np.array([_refine(theta_P, log_KN, fitted_N * np.exp(draw_N), scale)[0] for draw_N in draws])


def _uncentred(theta_SP: np.ndarray, centre_K: np.ndarray) -> np.ndarray:
    """The parameters where quantities are not divided by their centre."""
    K = len(centre_K)
    moved_SK = theta_SP[:, 1 + K :] + theta_SP[:, 1 : 1 + K] * np.log(centre_K)
    return np.concatenate([theta_SP[:, : 1 + K], moved_SK], axis=1)


def _intervals(theta_P: np.ndarray, samples_SP: np.ndarray, N: int, confidence: float) -> list[Interval]:
    """Intervals of E, the exponents and the coefficients."""
    K = len(theta_P) // 2
    found = np.stack([theta_P, *_ends(theta_P, samples_SP, N - len(theta_P), confidence)])
    with np.errstate(over="ignore"):  # losses without a law may leave a coefficient without an upper end
        found[:, 0], found[:, 1 + K :] = np.exp(found[:, 0]), np.exp(found[:, 1 + K :])
    return [Interval(*map(float, row)) for row in found.T]


def _ends(estimate: np.ndarray, samples_S: np.ndarray, freedom: int, confidence: float) -> np.ndarray:
    """The samples' quantiles, widened from a normal's to Student's, since the size of the noise is itself estimated."""
    tail = (1 - confidence) / 2
    widening = students_t(1 - tail, float(freedom)) / students_t(1 - tail, math.inf)
    return estimate + widening * (np.quantile(samples_S, [tail, 1 - tail], axis=0) - estimate)
