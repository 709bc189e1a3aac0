"""Stretches are those of the whole file, however its scores arrive."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from everlong.evaluate.stretches import Stretches
from everlong.generate import SURPRISAL


def scores(lengths: list[int]) -> np.ndarray:
    table = np.zeros(len(lengths), SURPRISAL)
    table["length"] = lengths
    table["offset"] = np.cumsum(lengths) - lengths
    table["bits"] = np.random.default_rng(0).gamma(1, 2, len(lengths))
    return table


@given(
    st.lists(st.integers(1, 5), min_size=1, max_size=60), st.lists(st.integers(0, 60), max_size=5), st.integers(1, 9)
)
def test_pieces_change_nothing(lengths, cuts, most):
    table = scores(lengths)
    whole, cut = Stretches(sum(lengths), most), Stretches(sum(lengths), most)
    whole.add(table)
    for piece in np.split(table, sorted(min(c, len(table)) for c in cuts)):
        cut.add(piece)
    found = whole.finish()
    assert cut.finish() == found
    assert len(found) <= most
    assert sum(stretch.bytes for stretch in found) == sum(lengths)
    assert sum(s.mean * s.bytes for s in found) == pytest.approx(table["bits"].sum())


def test_a_stretch_is_its_tokens():
    table = scores([1] * 40)
    stretches = Stretches(40, most=4)
    stretches.add(table)
    second = stretches.finish()[1]
    assert second.start == 10
    assert second.bytes == 10
    assert second.mean == pytest.approx(table["bits"][10:20].mean())
    assert (second.low, second.high) == pytest.approx(np.quantile(table["bits"][10:20], [0.1, 0.9]))


def test_only_one_stretch_is_held():
    stretches = Stretches(10_000, most=100)
    for piece in np.split(scores([1] * 10_000), 50):
        stretches.add(piece)
        assert sum(map(len, stretches._open)) <= 100


def test_tokens_without_bytes_are_left_out():
    stretches = Stretches(2, most=2)
    stretches.add(scores([1, 0, 1]))
    assert [stretch.bytes for stretch in stretches.finish()] == [1, 1]
