"""Exact forms of usual functions."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from everlong.core.exact import softplus


def test_softplus_is_exact_in_float64() -> None:
    x = torch.linspace(-50, 80, 521, dtype=torch.float64, requires_grad=True)
    with torch.no_grad():
        exact = torch.where(x > 0, x + torch.log1p(torch.exp(-x)), torch.log1p(torch.exp(-x.abs())))
    assert ((softplus(x) - exact).abs() <= 1e-14 * exact.abs()).all()
    (slope,) = torch.autograd.grad(softplus(x).sum(), x)
    assert (slope - torch.sigmoid(x)).abs().max() <= 1e-15
    assert (F.softplus(x) - exact).abs().max() > 1e-10  # why torch's own is not used


def test_softplus_does_not_overflow() -> None:
    x = torch.tensor([39.9, 40.1, 1e4, 6e4], requires_grad=True)
    assert softplus(x).isfinite().all()
    assert softplus(x.half()).isfinite().all()
    (slope,) = torch.autograd.grad(softplus(x).sum(), x)
    assert torch.equal(slope, torch.ones(4))
