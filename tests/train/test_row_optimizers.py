"""Optimizers of tables against their formulas, written out row by row."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from everlong.core.errors import ConfigError
from everlong.memory.storage import on_disk
from everlong.memory.table import Table
from everlong.train.row_adam import RowAdam
from everlong.train.row_optimizer import RowOptimizer
from everlong.train.rowwise_adagrad import RowwiseAdagrad

Steps = list[tuple[Tensor, Tensor]]
"""Addresses, and gradients of what was looked up."""


def adagrad(rows: Tensor, steps: Steps, rate: float) -> Tensor:
    rows, sums = rows.clone(), [0.0] * len(rows)
    for address_N, gradient_ND in steps:
        for row in address_N.unique().tolist():
            total = gradient_ND[address_N == row].sum(0)
            sums[row] += total.square().mean().item()
            rows[row] -= rate * total / (sums[row] ** 0.5 + 1e-10)
    return rows


def adam(rows: Tensor, steps: Steps, rate: float) -> Tensor:
    """Every row's moments move in every step, with a gradient of zero where nobody looked it up."""
    rows, mean, square = rows.clone(), torch.zeros_like(rows), torch.zeros_like(rows)
    for t, (address_N, gradient_ND) in enumerate(steps, start=1):
        g = torch.zeros_like(rows).index_add(0, address_N, gradient_ND)
        mean, square = 0.9 * mean + 0.1 * g, 0.95 * square + 0.05 * g.square()
        step = rate * (mean / (1 - 0.9**t)) / ((square / (1 - 0.95**t)).sqrt() + 1e-8)
        rows[address_N.unique()] -= step[address_N.unique()]
    return rows


BOTH = [(RowwiseAdagrad.Config(), adagrad), (RowAdam.Config(), adam)]


def random_steps(count: int, rows: int, width: int) -> Steps:
    generator = torch.Generator().manual_seed(0)
    return [
        (torch.randint(rows, (4,), generator=generator), torch.randn(4, width, generator=generator).double())
        for _ in range(count)
    ]


@pytest.mark.parametrize(("config", "by_hand"), BOTH)
def test_is_its_formula(config: RowOptimizer.Config, by_hand: Callable[[Tensor, Steps, float], Tensor]) -> None:
    rows, steps = nn.Parameter(torch.randn(9, 3).double()), random_steps(12, 8, 3)
    expected = by_hand(rows.detach(), steps, 0.1)
    optimizer = config.build([{"params": [rows], "lr": 0.1}])
    for address_N, gradient_ND in steps:
        F.embedding(address_N, rows, sparse=True).backward(gradient_ND)
        optimizer.step()
        optimizer.zero_grad()
    assert torch.allclose(rows, expected, rtol=0, atol=1e-13)
    assert torch.equal(rows[8], expected[8])  # never looked up
    looked_up = torch.cat([address_N for address_N, _ in steps]).unique()
    assert torch.equal(optimizer.changed[rows].nonzero()[:, 0], looked_up)


def test_adam_on_rows_that_are_looked_up_in_every_step_is_torchs() -> None:
    rows, others = (nn.Parameter(torch.linspace(-1, 1, 12).double().view(4, 3)) for _ in range(2))
    own = RowAdam.Config().build([{"params": [rows], "lr": 0.1}])
    torchs = torch.optim.Adam([others], lr=0.1, betas=(0.9, 0.95))
    for i in range(20):
        gradient_RD = torch.randn(4, 3, generator=torch.Generator().manual_seed(i)).double()
        F.embedding(torch.arange(4), rows, sparse=True).backward(gradient_RD)
        others.grad = gradient_RD
        for optimizer in (own, torchs):
            optimizer.step()
            optimizer.zero_grad()
    assert torch.allclose(rows, others, rtol=0, atol=1e-13)


@pytest.mark.parametrize(("config", "_by_hand"), BOTH)
def test_tables_in_files_learn_the_same_to_the_bit(config: RowOptimizer.Config, _by_hand: object, tmp_path) -> None:
    """After a hundred steps that share many rows, rows and all that is remembered of them are equal."""
    found = []
    for place in ("memory", "disk"):
        with on_disk(tmp_path):
            filed = Table(3000, 5)
        table = filed if place == "disk" else Table(3000, 5)
        optimizer = config.build([{"params": [table.rows], "lr": 0.1}])
        generator = torch.Generator().manual_seed(1)
        for _ in range(100):
            address_N = torch.randint(3000, (200,), generator=generator) // torch.randint(
                1, 9, (200,), generator=generator
            )
            (table(address_N) * torch.randn(200, 5, generator=generator)).sum().backward()
            optimizer.step()
            optimizer.zero_grad()
        found.append([table.rows, optimizer.changed[table.rows], *optimizer.memory[table.rows].values()])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))
    assert found[0][0].any()


def test_a_row_that_was_looked_up_in_vain_stays() -> None:
    """A gradient of zero divides zero by almost zero, and changes nothing."""
    for config, _ in BOTH:
        rows = nn.Parameter(torch.ones(2, 3))
        optimizer = config.build([{"params": [rows], "lr": 0.1}])
        F.embedding(torch.tensor([0]), rows, sparse=True).backward(torch.zeros(1, 3))
        optimizer.step()
        assert torch.equal(rows, torch.ones(2, 3))


@pytest.mark.parametrize(
    "make",
    [
        lambda: RowwiseAdagrad.Config(multiplier=0.0),
        lambda: RowAdam.Config(betas=(0.9, 1.0)),
        lambda: RowAdam.Config(epsilon=0.0),
    ],
)
def test_refuses_what_cannot_train(make: Callable[[], object]) -> None:
    with pytest.raises(ConfigError, match=r"optimizer\.tables"):
        make()
