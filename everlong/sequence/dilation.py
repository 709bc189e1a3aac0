"""Schedules of dilated attention: segment lengths and dilations (Ding et al. 2023, LongNet, arXiv 2307.02486, eq.
11-12)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from everlong.core.config import check


class Branch(NamedTuple):
    """Segments of `length` positions, of which every `dilation`-th is kept."""

    length: int
    dilation: int

    def kept(self, length: int, offset: int) -> int:
        """How many of the first `length` positions of a segment a head with this offset keeps."""
        return max(0, -(-(length - offset) // self.dilation))


def branches(segment_lengths: Sequence[int], dilations: Sequence[int]) -> tuple[Branch, ...]:
    """The branches of a schedule.

    Raises:
        ConfigError: lengths and dilations differ in number, do not grow, or a dilation exceeds its length.
    """
    lengths, rates = tuple(segment_lengths), tuple(dilations)
    check(len(lengths) >= 1, "segment_lengths", lengths, "must name at least one segment length, such as (2048,)")
    remedy = f"must hold one dilation a segment length: {len(lengths)}, for segment_lengths = {lengths}"
    check(len(rates) == len(lengths), "dilations", rates, remedy)
    for name, values in (("segment_lengths", lengths), ("dilations", rates)):
        check(values[0] >= 1, name, values, "must begin with 1 or more")
        check(
            all(a < b for a, b in pairwise(values)),
            name,
            values,
            "must grow from branch to branch",
        )
    for length, rate in zip(lengths, rates, strict=True):
        remedy = f"a dilation must not exceed its segment's length, here {length}"
        check(rate <= length, "dilations", rate, remedy)
    return tuple(Branch(*pair) for pair in zip(lengths, rates, strict=True))


def geometric_schedule(
    w0: int, ratio: int, length: int, dilation_ratio: int | None = None
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Segment lengths w0, w0 ratio, w0 ratio^2, ... up to `length`, which ends them; dilations 1, ratio, ratio^2, ...
    (paper, eq. 11-12), or of a ratio of their own.

    Raises:
        ConfigError: a ratio below 2, w0 below 1, or a length below w0.
    """
    rate = ratio if dilation_ratio is None else dilation_ratio
    check(w0 >= 1, "w0", w0, "must be at least 1")
    for name, value in (("ratio", ratio), ("dilation_ratio", rate)):
        check(value >= 2, name, value, "must be at least 2, or the schedule does not grow")
    check(length >= w0, "length", length, f"must be at least w0 = {w0}")
    lengths = [w0]
    while lengths[-1] < length:
        lengths.append(min(lengths[-1] * ratio, length))
    return tuple(lengths), tuple(rate**i for i in range(len(lengths)))
