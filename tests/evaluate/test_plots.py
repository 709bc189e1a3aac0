"""Figures show the numbers that they are given."""

from __future__ import annotations

import numpy as np
import pytest

from everlong.evaluate.bits_per_byte import measure
from everlong.evaluate.plots import by_position, comparison, loss_curve, surprisal
from everlong.evaluate.stretches import Stretch


def points(axes, i: int) -> np.ndarray:
    return np.array(axes.lines[i].get_data(), dtype=float)


def test_the_loss_curve():
    training = {1e6 * i: 2 + 1 / i for i in range(1, 200)}
    axes = loss_curve(training, {1e8: 2.2, 199e6: 2.1}, {"gzip": 2.5, "xz": 2.4}).axes[0]
    assert points(axes, 0).T.tolist() == [[seen / 1e6, bits] for seen, bits in training.items()]
    smooth = points(axes, 1)[1]
    assert smooth[[0, -1]] == pytest.approx([3.0, 2 + 1 / 199])  # the ends are not smoothed away
    assert smooth[99] == pytest.approx(np.mean([2 + 1 / i for i in range(98, 103)]))
    assert points(axes, 2).tolist() == [[100, 199], [2.2, 2.1]]
    low, high = axes.get_ylim()
    assert low < 2.0 + 1 / 199
    assert high > 3.0
    assert [text.get_text() for text in axes.texts] == ["xz 2.40", "gzip 2.50"]


def test_labels_that_are_close_are_kept_apart():
    axes = loss_curve({1.0: 8.0, 2.0: 2.0}, {}, {"a": 2.0, "b": 2.001, "c": 2.002}).axes[0]
    heights = [text.xy[1] for text in axes.texts]
    assert np.diff(heights).min() > 0.06


def test_a_curve_of_one_step():
    assert len(loss_curve({64.0: 8.0}, {}, {}).axes[0].lines) == 3


def test_bits_per_byte_by_position():
    scored = [(np.array([8.0, 4, 2, 1, 1, 1]), np.ones(6, dtype=np.int64)) for _ in range(3)]
    axes = by_position(measure(scored).by_position).axes[0]
    x, y = points(axes, 0)
    assert x == pytest.approx([1, 2, np.sqrt(3 * 4), np.sqrt(5 * 8)])  # places counted from 1
    assert y.tolist() == [8, 4, 1.5, 1]


def test_bars_are_in_order_and_tell_their_values():
    axes = comparison({"gzip": 2.0, "xz": 1.75, "own": 1.5}, "own").axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["own", "xz", "gzip"]
    assert [bar.get_width() for bar in axes.patches] == [1.5, 1.75, 2.0]
    assert [text.get_text() for text in axes.texts] == ["1.500", "1.750", "2.000"]
    assert [text.get_weight() for text in axes.texts] == ["bold", "normal", "normal"]
    assert axes.yaxis_inverted()  # the first is at the top


def test_surprisal_along_a_file():
    axes = surprisal([Stretch(0, 10, 1.0, 0.5, 2.0), Stretch(10, 30, 3.0, 2.0, 4.0)], "a.py").axes[0]
    assert points(axes, 0).tolist() == [[5, 25], [1, 3]]
    assert axes.get_xlim() == (0, 40)
    assert axes.get_title("left") == "a.py"
    assert axes.texts[0].get_text() == "2.50"  # the mean over bytes, not over stretches
