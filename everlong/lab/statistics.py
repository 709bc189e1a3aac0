"""How sure a mean over seeds and documents is, and a difference of two.

Legend: S seeds, D documents.

Model s takes b_sd bits for document d, which has n_d bytes. Seeds and documents are both drawn, and every seed reads
every document: two crossed samples. The estimate is R = sum b / (S sum n). Its variance is that of clusters in two
ways (Cameron, Gelbach & Miller 2011, J. Business & Economic Statistics 29(2), eq. 2.11),

    V = V_S + V_D - V_SD,        and at least V_S and V_D,

    V_S  = var_s(R_s) / S                                   of the seeds' own ratios,
    V_D  = D / (D-1) sum_d (mean_s b_sd - R n_d)^2 / N^2    of a ratio over documents, N = sum n (Cochran 1977, 2.11)
    V_SD = D / ((S-1) (D-1) S) sum_sd i_sd^2 / N^2          of what is left, i_sd, which both of them hold.

With few seeds the variance itself is uncertain, so the interval is Student's, with the degrees of freedom of
Satterthwaite (1946): V^2 / (V_S^2 / (S-1) + V_D^2 / (D-1)). A percentile bootstrap over three seeds covers the truth
too seldom (`tests/lab/test_statistics.py` measures both).

A difference of two architectures on the same seeds and documents is the same with b the difference of their bits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from everlong.core.config import check
from everlong.core.errors import ConfigError

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """An estimate and how far it may be off."""

    estimate: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """What a difference says."""
        if self.low <= 0 <= self.high:
            return "no difference shown"
        return "lower" if self.high < 0 else "higher"


def interval(
    bits_SD: Float64[np.ndarray, "s d"], bytes_D: Int64[np.ndarray, " d"], confidence: float = CONFIDENCE
) -> Interval:
    """Bits per byte of an architecture, or of the difference of two; see the top of this file.

    Raises:
        ConfigError: fewer than two seeds or documents, or SciPy is not installed.
    """
    S, D = bits_SD.shape
    check(S >= 2, "seeds", S, "must be at least 2 for an interval: finish more cells")
    check(D >= 2, "documents", D, "must be at least 2 for an interval: hold out more")
    size = bytes_D.sum()
    ratio_S = bits_SD.sum(1) / size
    ratio, mean_D = ratio_S.mean(), bits_SD.mean(0)
    residual_D = mean_D - ratio * bytes_D
    mixed_SD = bits_SD - mean_D - (ratio_S - ratio)[:, None] * bytes_D
    by_seed = ratio_S.var(ddof=1) / S
    by_document = D / (D - 1) * (residual_D**2).sum() / size**2
    by_both = D / ((S - 1) * (D - 1) * S) * (mixed_SD**2).sum() / size**2
    variance = max(by_seed, by_document, by_seed + by_document - by_both)
    half = 0.0
    if variance > 0:
        freedom = variance**2 / (by_seed**2 / (S - 1) + by_document**2 / (D - 1))
        half = students_t(0.5 + confidence / 2, float(max(freedom, S - 1))) * math.sqrt(variance)
    return Interval(float(ratio), float(ratio - half), float(ratio + half))


def students_t(probability: float, freedom: float) -> float:
    """A quantile of Student's t.

    Raises:
        ConfigError: SciPy is not installed.
    """
    require()
    from scipy import stats

    return float(stats.t.ppf(probability, freedom))


def require() -> None:
    """Makes sure that statistics can be made, before any work is done for them.

    Raises:
        ConfigError: SciPy is not installed.
    """
    try:
        import scipy.stats  # noqa: F401
    except ImportError as error:
        raise ConfigError("lab", "scipy", "needs the extra `report`: pip install everlong[report]") from error
