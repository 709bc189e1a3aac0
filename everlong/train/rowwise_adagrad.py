"""Row-wise Adagrad: one adaptive rate for each row of a table, updated where the gradient has rows.

With g the gradient of a row, summed over all places that looked it up (Duchi et al. 2011, with one sum of squares a
row instead of one a number, as is usual for tables of embeddings: 4 bytes of memory a row),

    s <- s + mean(g^2),   w <- w - lr g / (sqrt(s) + eps).
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from everlong.kernels.rows import read_rows
from everlong.train.row_optimizer import RowOptimizer

EPSILON = 1e-10


class RowwiseAdagrad(RowOptimizer):
    """Row-wise Adagrad."""

    class Config(RowOptimizer.Config):
        multiplier: float = 25.0
        """Of the base learning rate; more than Adam's, for Adagrad's rate falls as a row is used."""

    def kinds(self, table: Tensor) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
        return {"sum": ((len(table),), table.dtype)}

    def update(self, table: Tensor, row_U: Int64[Tensor, " u"], g_UD: Float[Tensor, "u d"], rate: float) -> None:
        sum_R = self.memory[table]["sum"]
        s_U = read_rows(sum_R, row_U).add_(g_UD.square().mean(1))
        sum_R.index_copy_(0, row_U, s_U)
        step_UD = g_UD / (s_U.sqrt() + EPSILON)[:, None]
        table.index_copy_(0, row_U, read_rows(table, row_U).sub_(step_UD, alpha=rate))
