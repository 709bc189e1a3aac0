"""Figures: the loss curve, bits per byte by position, the comparison with compressors, surprisal along a file, and
suites by length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from everlong.evaluate.bits_per_byte import ByPosition
from everlong.evaluate.figure import ACCENT, INK, MUTED, OTHER, styled
from everlong.evaluate.stretches import Stretch
from everlong.evaluate.suites.measured import Score

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Points = Mapping[float, float]

_SIZE = (7.2, 3.3)  # inches
_BITS = (0.25, 0.5, 0.75, 1, 1.5, 2, 3, 4, 6, 8)  # ticks
_BAND = {"color": ACCENT, "alpha": 0.16, "linewidth": 0}
_LINES = (ACCENT, INK, "#d9822b", "#3a9d5d", "#b04a9c", MUTED)
_DASHED = {"color": MUTED, "linewidth": 0.9, "linestyle": (0, (4, 3))}


@styled
def loss_curve(training: Points, validation: Points, references: Mapping[str, float]) -> Figure:
    """Bits per byte against the bytes seen in training.

    Args:
        training: bits per byte of single steps, by bytes seen; drawn with their running mean.
        validation: bits per byte of held-out documents, by bytes seen; may be empty.
        references: other compressors' bits per byte on the held-out documents, drawn as dashed lines.
    """
    figure, axes = _axes(*_SIZE)
    seen, bits = np.array(list(training)) / 1e6, np.array(list(training.values()))
    axes.plot(seen, bits, color=OTHER, linewidth=0.7)
    axes.plot(seen, _running_mean(bits), color=ACCENT, label="training")
    held_out = np.array(list(validation)) / 1e6, list(validation.values())
    axes.plot(*held_out, "o-", color=INK, linewidth=1, markersize=3.5, label="held out", clip_on=False)
    for value in references.values():
        axes.axhline(value, **_DASHED)
    axes.set_yscale("log")
    axes.set_yticks(_BITS, [f"{tick:g}" for tick in _BITS], minor=False)
    axes.minorticks_off()
    every = [*bits, *validation.values(), *references.values()]
    axes.set(xlim=(0, seen[-1]), ylim=(0.94 * min(every), 1.03 * max(every)))
    axes.set(xlabel="training bytes, MB", ylabel="bits per byte")
    _beside(axes, {f"{name} {value:.2f}": value for name, value in references.items()})
    axes.legend(frameon=False, loc="upper right", labelcolor=INK)
    return figure


@styled
def by_position(positions: ByPosition) -> Figure:
    """Bits per byte against the place of a token in its document, with a band of one standard error."""
    figure, axes = _axes(*_SIZE)
    middle = [np.sqrt((first + 1) * end) for first, end in positions.ranges]  # counted from 1
    value = np.array(positions.bits_per_byte)
    error = np.array([error or 0.0 for error in positions.standard_error])
    axes.fill_between(middle, value - error, value + error, **_BAND)
    axes.plot(middle, value, "o-", color=ACCENT, markersize=4)
    axes.set_xscale("log", base=2)
    axes.minorticks_off()
    axes.xaxis.set_major_formatter(_count)
    axes.set(xlabel="place in the document, in tokens", ylabel="bits per byte", ylim=(0, None))
    return figure


@styled
def comparison(bits_per_byte: Mapping[str, float], highlight: str) -> Figure:
    """One bar a compressor, the smallest at the top, with its value; `highlight` is the one to look at."""
    figure, axes = _axes(_SIZE[0], 0.3 + 0.36 * len(bits_per_byte))
    ordered = dict(sorted(bits_per_byte.items(), key=lambda item: item[1]))
    axes.barh(list(ordered), list(ordered.values()), color=[ACCENT if n == highlight else OTHER for n in ordered])
    for row, (name, value) in enumerate(ordered.items()):
        weight = "bold" if name == highlight else "normal"
        axes.annotate(f"{value:.3f}", (value, row), (5, 0), textcoords="offset points", va="center", weight=weight)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.1 * max(ordered.values()))
    axes.set_axisbelow(True)
    axes.grid(visible=False)
    axes.spines["bottom"].set_visible(False)
    axes.tick_params(bottom=False, labelbottom=False, labelcolor=INK)
    return figure


@styled
def surprisal(stretches: Sequence[Stretch], title: str) -> Figure:
    """Bits per byte along a file: the mean of every stretch, and the middle 80 % of its tokens."""
    figure, axes = _axes(*_SIZE)
    start, size, mean, low, high = np.array(stretches).T
    axes.fill_between(start + size / 2, low, high, **_BAND)
    axes.plot(start + size / 2, mean, color=ACCENT, linewidth=1.2)
    overall = float(mean @ size / size.sum())
    axes.axhline(overall, **_DASHED)
    axes.xaxis.set_major_formatter(_count)
    axes.set(title=title, xlabel="byte", ylabel="bits per byte", xlim=(0, size.sum()), ylim=(0, None))
    _beside(axes, {f"{overall:.2f}": overall})
    return figure


@styled
def suites(scores: Sequence[Score]) -> Figure:
    """The share of exact answers by length, one line a suite, with bars of the 95 % intervals."""
    figure, axes = _axes(*_SIZE)
    lines: dict[str, list[Score]] = {}
    for score in scores:
        lines.setdefault(score.suite, []).append(score)
    for i, (name, own) in enumerate(lines.items()):
        own.sort(key=lambda score: score.length)
        exact = np.array([score.exact for score in own])
        low, high = np.array([score.interval for score in own]).T
        reach = np.maximum(0, [exact - low, high - exact])
        colour, line = _LINES[i % len(_LINES)], ("-", "--", ":")[i // len(_LINES) % 3]
        length = [score.length * 1.02**i for score in own]  # a little apart, so that bars do not hide each other
        axes.errorbar(
            length, exact, reach, fmt="o", ls=line, color=colour, markersize=4, elinewidth=1, capsize=2, label=name
        )
    axes.set_xscale("log", base=2)
    axes.minorticks_off()
    axes.xaxis.set_major_formatter(_count)
    axes.set(xlabel="length, in tokens", ylabel="exact answers", ylim=(-0.03, 1.03))
    figure.legend(frameon=False, loc="outside right center", labelcolor=INK)
    return figure


@styled
def gates(step_S: Sequence[int], share_SLH: Float[np.ndarray, "s l h"]) -> Figure:
    """How much of what is heard comes from the memory, sigmoid(beta), over training: a panel a layer, a line a head."""
    from matplotlib.figure import Figure

    layers, across = share_SLH.shape[1], 4
    down = -(-layers // across)
    figure = Figure(figsize=(_SIZE[0], 0.5 + 1.7 * down))
    panels = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False).flatten()
    for layer, axes in enumerate(panels):
        axes.set_visible(layer < layers)
        if layer < layers:
            axes.plot(step_S, share_SLH[:, layer], linewidth=1.1)
            axes.set(title=f"layer {layer + 1}", ylim=(-0.03, 1.03), xlabel="update")
    panels[0].set_ylabel("sigmoid(beta)")
    return figure


def _axes(width: float, height: float) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    return figure, figure.subplots()


def _beside(axes: Axes, labels: Mapping[str, float]) -> None:
    """Writes labels beside the right edge at the heights of their values, but never over one another."""
    to_axes = axes.transData + axes.transAxes.inverted()
    free = -1.0
    for text, value in sorted(labels.items(), key=lambda item: item[1]):
        free = max(free + 0.065, float(to_axes.transform((axes.get_xlim()[1], value))[1]))
        axes.annotate(text, (1, free), (5, 0), "axes fraction", "offset points", va="center", color=MUTED, fontsize=9)


def _running_mean(values_N: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """The mean of what surrounds each value, 1/40 of all, and less towards the ends."""
    reach = len(values_N) // 80
    sums = np.concatenate([[0.0], values_N.cumsum()])
    centre = np.arange(len(values_N))
    span = np.minimum(reach, np.minimum(centre, len(values_N) - 1 - centre))
    return (sums[centre + span + 1] - sums[centre - span]) / (2 * span + 1)


def _count(number: float, _position: object) -> str:
    """A number of tokens or bytes for an axis: 512, 4K, 1M."""
    for unit, name in ((1 << 20, "M"), (1 << 10, "K")):
        if number >= unit and number % unit == 0:
            return f"{number / unit:g}{name}"
    return f"{number:g}"
