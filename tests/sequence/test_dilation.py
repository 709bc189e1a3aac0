"""Schedules of dilated attention: what they may be, and the geometric ones."""

from __future__ import annotations

import pytest

from everlong.core.errors import ConfigError
from everlong.sequence.dilation import branches, geometric_schedule


@pytest.mark.parametrize(
    ("arguments", "lengths", "dilations"),
    [
        ((2048, 2, 32768), (2048, 4096, 8192, 16384, 32768), (1, 2, 4, 8, 16)),
        ((100, 3, 1000), (100, 300, 900, 1000), (1, 3, 9, 27)),
        ((512, 4, 8192, 2), (512, 2048, 8192), (1, 2, 4)),
        ((64, 2, 64), (64,), (1,)),
    ],
)
def test_geometric(arguments, lengths, dilations) -> None:
    assert geometric_schedule(*arguments) == (lengths, dilations)
    assert branches(lengths, dilations)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((0, 2, 8), r"w0 = 0: must be at least 1"),
        ((4, 1, 8), r"ratio = 1: must be at least 2"),
        ((4, 2, 8, 1), r"dilation_ratio = 1: must be at least 2"),
        ((16, 2, 8), r"length = 8: must be at least w0 = 16"),
    ],
)
def test_geometric_errors(arguments, named) -> None:
    with pytest.raises(ConfigError, match=named):
        geometric_schedule(*arguments)


@pytest.mark.parametrize(
    ("lengths", "dilations", "named"),
    [
        ([], [], r"segment_lengths = \(\): must name at least one"),
        ([4, 8], [1], r"dilations = \(1,\): must hold one dilation a segment length: 2"),
        ([8, 4], [1, 2], r"segment_lengths = \(8, 4\): must grow"),
        ([4, 4], [1, 2], r"segment_lengths = \(4, 4\): must grow"),
        ([4, 8], [2, 2], r"dilations = \(2, 2\): must grow"),
        ([0], [1], r"segment_lengths = \(0,\): must begin with 1 or more"),
        ([4], [0], r"dilations = \(0,\): must begin with 1 or more"),
        ([4, 8], [1, 9], r"dilations = 9: a dilation must not exceed its segment's length, here 8"),
    ],
)
def test_errors(lengths, dilations, named) -> None:
    with pytest.raises(ConfigError, match=named):
        branches(lengths, dilations)
