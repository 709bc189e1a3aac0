"""What a study tells about scale: the loss of each architecture as a law of what its sizes differ in.

The sizes are those of several targets of one matching, or of several budgets; every finished run is a point. A law of
one quantity has three parameters, so four sizes are the fewest that could contradict it, and a quantity that does not
even double is not scaled. A law of parameters holds for as many bytes, and one of bytes for as many parameters; where
both change, the loss is no function of FLOPs either, and nothing is fitted.

Contenders of one preset may also stand along a quantity of the study's own (`Architecture.along`), such as memory slots
or context; a law of it holds for as many bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64

from everlong.evaluate.report import Table
from everlong.lab import plots
from everlong.lab.markdown import Drawing, Piece
from everlong.lab.results import Group, Results, document_bytes
from everlong.lab.scaling import Law, fit
from everlong.lab.statistics import CONFIDENCE, Interval

LEAST_SIZES = 4
"""Or budgets."""
LEAST_RANGE = 2.0
"""Of the largest value to the smallest."""
STEADY = 0.02
"""Relative spread of what counts as held."""

Value = Callable[[Group, dict[str, Any]], float]

QUANTITIES: dict[str, Value] = {
    "training FLOPs": lambda group, run: float(run["flops"]),
    "parameters": lambda group, run: float(group.plan["cost"]["non_embedding"]),
    "training bytes": lambda group, run: float(run["bytes_seen"]),
}
"""What a loss is set against."""
CAUSES = ("parameters", "training bytes")
"""Of which one must be the same for all points of a law."""


@dataclass(frozen=True, eq=False)
class Scaled:
    """An architecture at several sizes."""

    name: str
    x_N: Float64[np.ndarray, " n"]
    loss_N: Float64[np.ndarray, " n"]
    """Bits per byte."""
    law: Law


def scaling(results: Results) -> Iterator[Piece]:
    """A table and a figure of every quantity that is scaled; nothing where there are too few sizes."""
    for quantity in dict.fromkeys(group.plan["quantity"] for group in results.groups):
        groups = [group for group in results.groups if group.plan["quantity"] == quantity and group.runs]
        for against in QUANTITIES:
            found = [scaled for own in _architectures(groups) if (scaled := fitted(own, against)) is not None]
            if found:
                yield from _pieces(f"Scaling, sizes of equal {quantity}: loss against {against}", against, found)
    for label, groups in results.matchings():
        along = [group for group in groups if group.runs and group.plan.get("along")]
        for against in dict.fromkeys(group.plan["along"][0] for group in along):
            found = [scaled for own in _presets(along, against) if (scaled := fitted_along(own, against)) is not None]
            if found:
                yield from _pieces(f"Scaling at {label}: loss against {against}", against, found)


def fitted(groups: Sequence[Group], against: str) -> Scaled | None:
    """The law of one architecture's groups; `None` where the quantity is not scaled, or something else is too.

    Raises:
        ConfigError: the extra `report` is not installed.
    """
    once = list({(*group.plan["sizes"].items(), group.plan["bytes"]): group for group in groups}.values())
    x_N, causes = _values(once, against), [_values(once, cause) for cause in CAUSES]
    changing = sum(cause_N.max() > (1 + STEADY) * cause_N.min() for cause_N in causes)
    if len(once) < LEAST_SIZES or x_N.max() < LEAST_RANGE * x_N.min() or changing > 1:
        return None
    return _scaled(groups[0].name, once, against, x_N)


def fitted_along(groups: Sequence[Group], against: str) -> Scaled | None:
    """The law of one preset's groups in a quantity of the study's own; `None` where there are too few, they hardly
    differ, or they have learnt from different numbers of bytes.

    Raises:
        ConfigError: the extra `report` is not installed.
    """
    x_N = np.array([group.plan["along"][1] for group in groups for _ in group.runs], dtype=np.float64)
    bytes_N = _values(groups, "training bytes")
    too_few = len(set(x_N)) < LEAST_SIZES or x_N.max() < LEAST_RANGE * x_N.min()
    if too_few or bytes_N.max() > (1 + STEADY) * bytes_N.min():
        return None
    return _scaled(groups[0].plan["preset"], groups, against, x_N)


def _scaled(name: str, groups: Sequence[Group], against: str, x_N: Float64[np.ndarray, " n"]) -> Scaled:
    loss_N = np.concatenate([group.bits(list(group.runs)).sum(1) / document_bytes(group).sum() for group in groups])
    return Scaled(name, x_N, loss_N, fit(loss_N, {against: x_N}))


def _presets(groups: Sequence[Group], against: str) -> Iterator[list[Group]]:
    own = [group for group in groups if group.plan["along"][0] == against]
    for preset in dict.fromkeys(group.plan["preset"] for group in own):
        yield [group for group in own if group.plan["preset"] == preset]


def _architectures(groups: Sequence[Group]) -> Iterator[list[Group]]:
    for name in dict.fromkeys(group.name for group in groups):
        yield [group for group in groups if group.name == name]


def _values(groups: Sequence[Group], quantity: str) -> np.ndarray:
    """Of every run."""
    return np.array([QUANTITIES[quantity](group, run) for group in groups for run in group.runs.values()])


def _pieces(title: str, against: str, found: list[Scaled]) -> Iterator[Piece]:
    caption = (
        "The fit of L = E + A / x^a to the bits per byte of every run. Intervals and bands are those of a residual "
        f"bootstrap, {CONFIDENCE:.0%}, for these documents: they tell where the law runs if it is one, not whether it "
        "goes on beyond the points."
    )
    columns = ("architecture", "points", "smallest x", "largest x", "E", "a", "A")
    yield Table(title, columns, [_row(against, scaled) for scaled in found], caption)
    curves = {scaled.name: _curve(against, scaled) for scaled in found}
    drawn = plots.laws(curves, against, "bits per byte")
    yield Drawing(f"{title}, drawn", drawn, "Every run, the fitted law, and its band.", _slug(title))


def _row(against: str, scaled: Scaled) -> tuple[str, ...]:
    law = scaled.law
    told = (law.irreducible, law.exponents[against], law.coefficients[against])
    ends = f"{scaled.x_N.min():.4g}", f"{scaled.x_N.max():.4g}"
    return scaled.name, str(law.points), *ends, *map(_within, told)


def _within(value: Interval) -> str:
    return f"{value.estimate:.3g} ({value.low:.3g} to {value.high:.3g})"


def _curve(against: str, scaled: Scaled) -> plots.Curve:
    along_N = np.geomspace(scaled.x_N.min(), scaled.x_N.max(), 50)
    return plots.Curve(scaled.x_N, scaled.loss_N, along_N, scaled.law.band({against: along_N}))


def _slug(title: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in title.lower()).replace("--", "-")
