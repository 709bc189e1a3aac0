"""Adam on the rows that a step looked up, its moments decayed for the steps since they were looked up last.

With g the gradient of a row, summed over all places that looked it up, t the step and k = t - (the step of the row's
last update) (Kingma & Ba 2015, arXiv 1412.6980; for tables as Engram trains them, arXiv 2601.07372, table 5: five times
the base rate, no weight decay),

    m <- b1^k m + (1 - b1) g,   v <- b2^k v + (1 - b2) g^2,
    w <- w - lr (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps).

A row's moments are then exactly those of Adam on the whole table, in which rows that were not looked up have a gradient
of zero. Its weights are not: there a row also moves on in the steps in which nobody looks it up. Here it stays.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from everlong.core.config import check
from everlong.kernels.rows import read_rows
from everlong.train.row_optimizer import RowOptimizer


class RowAdam(RowOptimizer):
    """Adam on active rows: two numbers of memory for each of a table, and one a row."""

    class Config(RowOptimizer.Config):
        multiplier: float = 5.0
        """Of the base learning rate."""
        betas: tuple[float, float] = (0.9, 0.95)
        """Memory of the gradient and of its square."""
        epsilon: float = 1e-8
        """Lower bound of the gradient's size."""

        def __post_init__(self) -> None:
            super().__post_init__()
            fitting = len(self.betas) == 2 and all(0 <= beta < 1 for beta in self.betas)
            check(fitting, "optimizer.tables.betas", self.betas, "must be two numbers from 0 to below 1")
            check(0 < self.epsilon < 1, "optimizer.tables.epsilon", self.epsilon, "must lie between 0 and 1")

    config: RowAdam.Config

    def __init__(self, config: RowAdam.Config, groups: Iterable[dict[str, Any]]) -> None:
        super().__init__(config, groups)
        for table in self.tables:
            self.state[table]["step"] = torch.zeros((), dtype=torch.int64)  # of all steps, by table: it is saved so

    def kinds(self, table: Tensor) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
        shape = tuple(table.shape)
        return {"mean": (shape, table.dtype), "square": (shape, table.dtype), "last": (shape[:1], torch.int64)}

    def step(self) -> None:
        self.prepare()  # before the steps are counted: it may raise
        for table in self.tables:
            self.state[table]["step"] += 1
        super().step()

    def update(self, table: Tensor, row_U: Int64[Tensor, " u"], g_UD: Float[Tensor, "u d"], rate: float) -> None:
        memory, t = self.memory[table], int(self.state[table]["step"])
        (b1, b2), steps_U1 = self.config.betas, (t - read_rows(memory["last"], row_U))[:, None].to(g_UD.dtype)
        m_UD = read_rows(memory["mean"], row_U).mul_(b1**steps_U1).add_(g_UD, alpha=1 - b1)
        v_UD = read_rows(memory["square"], row_U).mul_(b2**steps_U1).addcmul_(g_UD, g_UD, value=1 - b2)
        for kind, new_UD in (("mean", m_UD), ("square", v_UD)):
            memory[kind].index_copy_(0, row_U, new_UD)
        memory["last"].index_fill_(0, row_U, t)
        size_UD = (v_UD / (1 - b2**t)).sqrt_().add_(self.config.epsilon)
        table.index_copy_(0, row_U, read_rows(table, row_U).addcdiv_(m_UD, size_UD, value=-rate / (1 - b1**t)))
