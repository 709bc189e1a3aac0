"""Smoothing: the block form against the recurrence, for values, gradients and precision."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from everlong.resolution import smoothing
from everlong.resolution.smoothing import smooth
from everlong.testing.compare import assert_near


def recurrence(z_BKD: Tensor, gain_BK: Tensor, start_BK: Tensor, before_BD: Tensor) -> Tensor:
    """s_k = P_k z_k + (1 - P_k) s_{k-1}, one after the other."""
    rows = []
    for k in range(z_BKD.shape[1]):
        before_BD = torch.where(start_BK[:, k, None], 0, before_BD)
        before_BD = gain_BK[:, k, None] * z_BKD[:, k] + (1 - gain_BK[:, k, None]) * before_BD
        rows.append(before_BD)
    return torch.stack(rows, dim=1)


def problem(K: int, high: float = 0.999, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    z_BKD = torch.randn(2, K, 5, generator=generator, dtype=torch.float64)
    gain_BK = torch.rand(2, K, generator=generator, dtype=torch.float64) * high
    gain_BK[:, ::7] = high
    start_BK = torch.rand(2, K, generator=generator) < 0.05
    before_BD = torch.randn(2, 5, generator=generator, dtype=torch.float64)
    return z_BKD.to(dtype), gain_BK.to(dtype), start_BK, before_BD.to(dtype)


@pytest.mark.parametrize("K", [1, 3, 64, 65, 200])
def test_is_the_recurrence(K: int) -> None:
    inputs = problem(K)
    s_BKD, last_BD = smooth(*inputs)
    expected_BKD = recurrence(*inputs)
    assert_near(s_BKD, expected_BKD, 1e-12, "s")
    assert_near(last_BD, expected_BKD[:, -1], 1e-12, "the last s")


def test_gains_of_zero_leave_the_past() -> None:
    z_BKD, gain_BK, start_BK, before_BD = problem(9)
    s_BKD, _ = smooth(z_BKD, torch.zeros_like(gain_BK), torch.zeros_like(start_BK), before_BD)
    assert_near(s_BKD, before_BD[:, None].expand_as(s_BKD), 1e-14, "s")


def test_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smoothing, "BLOCK", 3)
    z_BKD, gain_BK, start_BK, before_BD = problem(8)
    inputs = tuple(x.requires_grad_() for x in (z_BKD, gain_BK, before_BD))
    torch.autograd.gradcheck(lambda z, gain, before: smooth(z, gain, start_BK, before), inputs)


@pytest.mark.parametrize("high", [0.9, 0.999, 0.9999])
def test_gradient_of_the_gain_in_float32(high: float) -> None:
    """Where P comes close to 1, weights made in float32 would be off by 1e-3; here all stays below 1e-5."""
    found, expected = (_gain_gradient(form, dtype, high) for form, dtype in (
        (lambda *inputs: smooth(*inputs)[0], torch.float32), (recurrence, torch.float64)
    ))  # fmt: skip
    error = ((found.double() - expected).norm() / expected.norm()).item()
    assert error < 1e-5


def _gain_gradient(form, dtype: torch.dtype, high: float) -> Tensor:
    z_BKD, gain_BK, start_BK, before_BD = problem(300, high, torch.float32)
    z_BKD, gain_BK, before_BD = (x.to(dtype) for x in (z_BKD, gain_BK, before_BD))
    gain_BK.requires_grad_()
    (gradient,) = torch.autograd.grad(form(z_BKD, gain_BK, start_BK, before_BD).square().sum(), gain_BK)
    return gradient
