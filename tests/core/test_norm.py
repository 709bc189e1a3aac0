"""RMSNorm against its definition."""

from __future__ import annotations

import pytest
import torch

from everlong.core.norm import RMSNorm
from everlong.testing.compare import assert_near


def test_definition() -> None:
    norm = RMSNorm(6).double()
    norm.weight.data = torch.randn(6, dtype=torch.float64)
    x = torch.randn(3, 4, 6, dtype=torch.float64)
    expected = x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * norm.weight
    assert_near(norm(x), expected, 1e-14, "norm")


def test_nothing_gives_nothing() -> None:
    assert (RMSNorm(4)(torch.zeros(1, 4)) == 0).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_keeps_the_inputs_dtype(dtype: torch.dtype) -> None:
    """Under autocast the weight is float32; the output must not become float32 for that."""
    assert RMSNorm(4)(torch.randn(2, 4).to(dtype)).dtype == dtype
