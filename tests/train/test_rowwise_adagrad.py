"""Row-wise Adagrad against its formula, written out row by row."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from everlong.train.rowwise_adagrad import RowwiseAdagrad


def by_hand(rows: Tensor, steps: list[tuple[Tensor, Tensor]], rate: float) -> Tensor:
    """Rows after steps of (addresses, gradients of what was looked up)."""
    rows, sums = rows.clone(), [0.0] * len(rows)
    for address_N, gradient_ND in steps:
        for row in address_N.unique().tolist():
            total = gradient_ND[address_N == row].sum(0)
            sums[row] += total.square().mean().item()
            rows[row] -= rate * total / (sums[row] ** 0.5 + 1e-10)
    return rows


def test_is_its_formula() -> None:
    generator = torch.Generator().manual_seed(0)
    rows = nn.Parameter(torch.randn(6, 3, generator=generator, dtype=torch.float64))
    steps = [
        (torch.randint(5, (4,), generator=generator), torch.randn(4, 3, generator=generator, dtype=torch.float64))
        for _ in range(5)
    ]
    expected = by_hand(rows.detach(), steps, rate=0.1)
    optimizer = RowwiseAdagrad([{"params": [rows], "lr": 0.1}])
    for address_N, gradient_ND in steps:
        F.embedding(address_N, rows, sparse=True).backward(gradient_ND)
        optimizer.step()
        optimizer.zero_grad()
    assert torch.allclose(rows, expected, rtol=0, atol=1e-14)
    assert torch.equal(rows[5], expected[5])  # never looked up


def test_a_row_that_was_looked_up_in_vain_stays() -> None:
    """A gradient of zero divides zero by almost zero, and changes nothing."""
    rows = nn.Parameter(torch.ones(2, 3))
    optimizer = RowwiseAdagrad([{"params": [rows], "lr": 0.1}])
    F.embedding(torch.tensor([0]), rows, sparse=True).backward(torch.zeros(1, 3))
    optimizer.step()
    assert torch.equal(rows, torch.ones(2, 3))
