"""The peer of dilated attention on a GPU is what it is taken for."""

from __future__ import annotations

import pytest
import torch

from benchmarks.gather_scatter import gather_scatter_attention
from everlong.sequence.torchscale import torchscale_attention

SCHEDULES = [([8], [1]), ([8, 16, 32], [1, 2, 4]), ([4, 8, 16], [1, 2, 3]), ([16, 64], [2, 4])]


def drawn(N: int, H: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(N)
    return [torch.randn(2, N, H, 8, generator=generator, dtype=torch.float64).requires_grad_() for _ in "qkv"]


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize(("N", "H"), [(32, 4), (37, 3), (64, 8)])
def test_both_sides_is_torchscales_function(schedule, N, H):
    """In its quirks too, output and gradients: see `everlong/sequence/torchscale.py`."""
    qkv = drawn(N, H)
    found, wanted = gather_scatter_attention(*qkv, *schedule, causal=False), torchscale_attention(*qkv, *schedule)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)
    weight = torch.randn_like(found)
    for one, other in zip(
        torch.autograd.grad((found * weight).sum(), qkv),
        torch.autograd.grad((wanted * weight).sum(), qkv),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


@pytest.mark.parametrize("schedule", SCHEDULES[:2])
def test_causal_looks_back_only(schedule):
    q, k, v = drawn(32, 4)
    before = gather_scatter_attention(q, k, v, *schedule)
    changed = v.detach().clone()
    changed[:, 20] += 1
    after = gather_scatter_attention(q, k, changed, *schedule)
    assert torch.equal(before[:, :20], after[:, :20])
    assert not torch.equal(before[:, 20:], after[:, 20:])
