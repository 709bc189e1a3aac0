"""The planner's closed forms against brute force at small lengths."""

from __future__ import annotations

import random

import pytest
import torch

from everlong.core.errors import ConfigError
from everlong.sequence.dilation import Branch, branches, geometric_schedule
from everlong.sequence.dilation_plan import Plan, local_share, plan, steps
from tests.oracles import dilated as oracle

PAPER = branches((2048, 4096, 8192, 16384, 32768), (1, 2, 4, 6, 12))


def planned(schedule: tuple[Branch, ...], N: int, P: int = 1, H: int = 12, G: int = 12) -> Plan:
    return plan(schedule, length=N, devices=P, heads=H, kv_heads=G, head=64, bytes_each=2)


def random_schedule(seed: int) -> tuple[tuple[Branch, ...], int, int]:
    """A schedule, a length and a number of heads."""
    draw = random.Random(seed)
    count = draw.randint(1, 4)
    dilations = [1, *sorted(draw.sample(range(2, 9), count - 1))]
    lengths = sorted(draw.sample(range(9, 60), count))
    return branches(lengths, dilations), draw.randint(1, 80), draw.randint(1, 9)


def test_flops_are_counted() -> None:
    for seed in range(20):
        schedule, N, H = random_schedule(seed)
        pairs = oracle.counts(N, H, schedule).sum().item()
        assert planned(schedule, N, H=H, G=1).flops == 4 * 64 * pairs


def test_local_share_is_counted() -> None:
    for seed in range(60):
        schedule, N, H = random_schedule(seed)
        kept = torch.zeros(H, N, dtype=torch.bool)
        for w, r in schedule[1:]:
            for h in range(H):
                kept[h] |= torch.arange(N) % w % r == h % r
        share, counted = local_share(schedule, N, H)
        assert counted == N
        assert share == pytest.approx((~kept).double().mean().item(), abs=1e-12)


def test_steps_suffice() -> None:
    """No two positions are further apart, and where the plan promises nothing there are some that are, or may be."""
    promised = 0
    for seed in range(60):
        schedule, N, H = random_schedule(seed)
        joined = (oracle.counts(N, H, schedule, causal=False) > 0).any(0).double()
        if (found := steps(schedule, N)) is None:
            continue
        promised += 1
        assert (torch.linalg.matrix_power(joined, found) > 0).all(), (schedule, N, H)
        assert found == 1 or not (joined > 0).all()
    assert promised > 10
    assert steps(PAPER, 32768) == 3
    assert steps(PAPER, 32769) is None  # the next segment hears nothing of the first


def test_gathered_is_counted() -> None:
    """Kept keys of the other devices of a segment, where segments and devices divide each other."""
    for w, r, N, P, H in ((32, 2, 64, 8, 2), (64, 4, 64, 4, 12), (8, 2, 64, 4, 3), (64, 8, 64, 2, 3)):
        own, device = N // P, P - 1
        rows = 0
        for h in range(H):
            for t in range(N):
                same = t // w == device * own // w and t // own != device
                rows += same and t % w % r == h % r
        found = planned((Branch(w, r),), N, P, H, H)
        assert found.gathered_bytes == 2 * rows * 64 * 2, (w, r)


def test_gathered_does_not_grow_with_length_and_devices() -> None:
    """Segments that reach over k devices cost the same however many devices there are."""
    assert len({planned(PAPER, 4096 * P, P).gathered_bytes for P in (8, 64, 1024)}) == 1
    assert (
        planned(PAPER, 4096 * 1024, 1024).dense_gathered_bytes > 100 * planned(PAPER, 4096 * 1024, 1024).gathered_bytes
    )


def test_grouped_heads_gather_and_keep_no_more() -> None:
    assert planned(PAPER, 32768, 16, 12, 4).gathered_bytes <= planned(PAPER, 32768, 16, 12, 12).gathered_bytes


def test_the_papers_schedule() -> None:
    """The numbers that follow from the paper's schedule at 32K."""
    whole = planned(PAPER, 32768)
    assert whole.cache_rows == 2048 + 2048 + 2048 + 2731 + 2731
    assert whole.local_share == 0.5
    assert whole.dense_flops / whole.flops == pytest.approx(7.68, abs=0.01)


def test_a_billion_tokens() -> None:
    N = 1 << 30
    schedule = branches(*geometric_schedule(2048, 2, N))
    whole = planned(schedule, N, 1 << 14)
    assert whole.cache_rows == 2048 * 20
    assert whole.local_share_of == N


@pytest.mark.parametrize(
    ("sizes", "named"),
    [
        ({"length": 0}, r"length = 0: must be at least 1"),
        ({"devices": 3}, r"devices = 3: must divide length = 64"),
        ({"devices": 0}, r"devices = 0: must divide"),
        ({"kv_heads": 5}, r"kv_heads = 5: must divide heads = 12"),
        ({"head": 0}, r"head = 0"),
    ],
)
def test_errors(sizes, named) -> None:
    usual = {"length": 64, "devices": 1, "heads": 12, "kv_heads": 12, "head": 64, "bytes_each": 2}
    with pytest.raises(ConfigError, match=named):
        plan(PAPER, **{**usual, **sizes})
