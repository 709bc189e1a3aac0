"""What dilated attention costs at a length, on paper: closed forms, so that a billion tokens take milliseconds.

Legend: N tokens, P devices, l = N/P tokens a device, H query heads, G key/value heads (n = H/G share one), E head size;
of a branch: w segment length, r dilation.

    FLOPs               4 E pairs, pairs = sum over branches, heads and segments of c (c + 1) / 2, c kept rows
    cache rows          at most sum ceil(min(w, N) / r) a query head
    bytes gathered      in the forward pass a device receives, of every branch with w > l, at most the kept keys and
                        values of the other ceil(w / l) - 1 devices of the segment; the backward pass sends as much
                        back (Ding et al. 2023, LongNet, arXiv 2307.02486, section 3.1)
    steps               how many layers suffice to lead from any position to any other, mask aside: 1 within one dense
                        segment; 3 (to a kept row nearby, far, and on to the goal) if the last branch spans all tokens
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from everlong.core.config import check, check_divides
from everlong.sequence.dilated_geometry import Geometry
from everlong.sequence.dilation import Branch

COUNTED = 1 << 18  # positions that are counted one by one, at most


@dataclass(frozen=True)
class BranchPlan:
    """One branch at a length."""

    branch: Branch
    flops: int
    """Forward FLOPs of one layer, by the convention of `Part.flops`."""
    cache_rows: int
    """Rows that a query head keeps, at most."""
    gathered_bytes: int
    """What a device receives in the forward pass of one layer, for one batch row, at most."""


@dataclass(frozen=True)
class Plan:
    """One layer of dilated attention at a length."""

    length: int
    devices: int
    branches: tuple[BranchPlan, ...]
    dense_flops: int
    """Of causal attention to everything."""
    dense_gathered_bytes: int
    local_share: float
    """Share of rows, over all heads, that no branch but the first keeps."""
    local_share_of: int
    """The share is that of the first so many positions; N, or a whole number of periods, unless the pattern repeats
    too late to be counted."""
    steps: int | None
    """`None`: not all positions are joined, or not surely."""

    @property
    def flops(self) -> int:
        return sum(branch.flops for branch in self.branches)

    @property
    def cache_rows(self) -> int:
        return sum(branch.cache_rows for branch in self.branches)

    @property
    def gathered_bytes(self) -> int:
        return sum(branch.gathered_bytes for branch in self.branches)


def plan(
    schedule: tuple[Branch, ...], *, length: int, devices: int, heads: int, kv_heads: int, head: int, bytes_each: int
) -> Plan:
    """Plans one layer and one batch row.

    Args:
        devices: P, which share the sequence; divides `length`.
        head: E, head size.
        bytes_each: bytes of one number.

    Raises:
        ConfigError: sizes that do not fit each other.
    """
    for name, value in (("length", length), ("heads", heads), ("head", head)):
        check(value >= 1, name, value, "must be at least 1")
    check_divides(devices, length, "devices", "length")
    check_divides(kv_heads, heads, "kv_heads", "heads")
    share, counted = local_share(schedule, length, heads)
    return Plan(
        length=length,
        devices=devices,
        branches=tuple(_branch_plan(b, length, devices, heads, kv_heads, head, bytes_each) for b in schedule),
        dense_flops=2 * head * heads * length * (length + 1),
        dense_gathered_bytes=2 * kv_heads * head * bytes_each * (length - length // devices),
        local_share=share,
        local_share_of=counted,
        steps=steps(schedule, length),
    )


def _branch_plan(b: Branch, N: int, P: int, H: int, G: int, E: int, bytes_each: int) -> BranchPlan:
    own = N // P
    others = -(-min(b.length, N) // own) - 1
    geometry = Geometry((b,), H, G)
    rows = min(others * b.kept(own, 0), b.kept(min(b.length, N), 0)) * geometry.slots(b) * G
    return BranchPlan(b, 4 * E * geometry.pairs(N), b.kept(min(b.length, N), 0), 2 * rows * E * bytes_each)


def local_share(schedule: tuple[Branch, ...], N: int, H: int) -> tuple[float, int]:
    """The share of (head, position) that no branch but the first keeps, and of how many positions it is the share.

    A branch whose dilation divides its length repeats after r positions, another after w: so the whole pattern repeats
    after their least common multiple, and one period is counted.
    """
    telling = [b for i, b in enumerate(schedule[1:], start=1) if not any(_keeps(a, b) for a in schedule[1:i])]
    period = math.lcm(*(b.dilation if b.length % b.dilation == 0 else b.length for b in telling))
    counted = min(N, period, COUNTED)
    whole, rest = divmod(N, counted) if counted == period else (1, 0)
    local_HT = np.ones((H, counted), dtype=bool)
    for b in telling:
        local_HT &= np.arange(counted) % b.length % b.dilation != np.arange(H)[:, None] % b.dilation
    local = whole * int(local_HT.sum()) + int(local_HT[:, :rest].sum())
    total = whole * counted + rest
    return local / (H * total), total


def _keeps(a: Branch, b: Branch) -> bool:
    """Whether branch `a` surely keeps every position that branch `b` keeps, in the same heads."""
    return b.dilation % a.dilation == a.length % a.dilation == b.length % a.dilation == 0


def steps(schedule: tuple[Branch, ...], N: int) -> int | None:
    """How many layers suffice from any position to any other, mask aside."""
    local, far = schedule[0], schedule[-1]
    if local.dilation != 1 or far.length < N:
        return None
    shortest = N % local.length or local.length  # of the dense segments
    return 1 if local.length >= N else 3 if shortest >= far.dilation else None
