"""Figures of a study: one line an architecture, intervals side by side, and laws with their points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Float64

from everlong.evaluate.figure import ACCENT, INK, MUTED, OTHER, styled
from everlong.lab.statistics import Interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Points = Sequence[tuple[float, float]]


class Curve(NamedTuple):
    """A law, and what it was fitted to."""

    x_N: Float64[np.ndarray, " n"]
    y_N: Float64[np.ndarray, " n"]
    along_M: Float64[np.ndarray, " m"]
    """Where the law is drawn."""
    band_3M: Float64[np.ndarray, "3 m"]
    """The law, and the ends of its band."""


_COLOURS = (INK, ACCENT, MUTED, OTHER)
_DASHES = ("solid", (0, (5, 2)), (0, (1, 1.5)))
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")


@styled
def lines(series: Mapping[str, Points], xlabel: str, ylabel: str, base: int) -> Figure:
    """One line a series, over a logarithmic axis of this base. Colour, dash and marker tell them apart."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 3.6))
    axes = figure.subplots()
    for i, (name, points) in enumerate(series.items()):
        axes.plot(
            *zip(*points, strict=True),
            color=_COLOURS[i % len(_COLOURS)],
            linestyle=_DASHES[i // len(_COLOURS) % len(_DASHES)],
            marker=_MARKERS[i % len(_MARKERS)],
            markersize=4,
            label=name,
        )
    axes.set_xscale("log", base=base)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.legend(frameon=False, labelcolor=INK)
    return figure


@styled
def laws(curves: Mapping[str, Curve], xlabel: str, ylabel: str) -> Figure:
    """Points, a curve and its band for every law, over a logarithmic axis."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 3.6))
    axes = figure.subplots()
    for i, (name, curve) in enumerate(curves.items()):
        colour, (middle_M, low_M, high_M) = _COLOURS[i % len(_COLOURS)], curve.band_3M
        axes.fill_between(curve.along_M, low_M, high_M, color=colour, alpha=0.16, linewidth=0)
        axes.plot(curve.along_M, middle_M, color=colour, linestyle=_DASHES[i // len(_COLOURS) % len(_DASHES)])
        axes.plot(curve.x_N, curve.y_N, _MARKERS[i % len(_MARKERS)], color=colour, markersize=4, label=name)
    axes.set_xscale("log")
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.legend(frameon=False, labelcolor=INK)
    return figure


@styled
def intervals(values: Mapping[str, Interval], xlabel: str) -> Figure:
    """Estimates as dots with their intervals, the smallest at the top."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 0.7 + 0.36 * len(values)))
    axes = figure.subplots()
    ordered = sorted(values.items(), key=lambda item: item[1].estimate)
    for row, (_, value) in enumerate(ordered):
        axes.plot([value.low, value.high], [row, row], color=ACCENT)
        axes.plot([value.estimate], [row], "o", color=INK, markersize=5)
    axes.set_yticks(range(len(ordered)), [name for name, _ in ordered])
    axes.invert_yaxis()
    axes.margins(y=0.15)
    axes.grid(visible=True, axis="x")
    axes.grid(visible=False, axis="y")
    axes.set(xlabel=xlabel)
    return figure
