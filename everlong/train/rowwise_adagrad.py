"""Row-wise Adagrad: one adaptive rate for each row of a table, updated where the gradient has rows.

With g the gradient of a row, summed over all places that looked it up (Duchi et al. 2011, with one sum of squares a
row instead of one a number, as is usual for tables of embeddings: 4 bytes of memory a row),

    s <- s + mean(g^2),   w <- w - lr g / (sqrt(s) + eps).

Rows that nobody looked up are neither read nor written, so a step costs the same whatever the size of the table.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

EPSILON = 1e-10


class RowwiseAdagrad(torch.optim.Optimizer):
    """Row-wise Adagrad for parameters (rows, width) whose gradients are sparse over rows.

    Args:
        groups: torch's parameter groups, each with its `lr`.
    """

    def __init__(self, groups: Iterable[dict[str, Any]]) -> None:
        super().__init__(groups, {})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]  # without torch's closure
        """One update from the gradients at hand."""
        for group in self.param_groups:
            for table in group["params"]:
                if table.grad is not None:
                    self._update(table, group["lr"])

    def _update(self, table: torch.nn.Parameter, rate: float) -> None:
        if "sum" not in self.state[table]:
            self.state[table]["sum"] = table.new_zeros(len(table))
        sum_R, gradient = self.state[table]["sum"], table.grad.coalesce()  # type: ignore[union-attr]  # asked for above
        row_U, g_UD = gradient.indices()[0], gradient.values()
        s_U = sum_R[row_U] + g_UD.square().mean(1)
        sum_R[row_U] = s_U
        table.index_add_(0, row_U, g_UD / (s_U.sqrt() + EPSILON)[:, None], alpha=-rate)
