"""A table of rows that are looked up: its training cost depends on the rows of a batch, not on those of the table.

The gradient of a table is sparse: it holds the rows that were looked up, once each, and an optimizer touches only
these. So a table may be far larger than what a step could afford to read.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from everlong.core.accounting import Hint

RATE = 25.0  # times the base rate. The paper's 5 is for Adam; Adagrad's rate falls as a row is used, and starts higher


class Table(nn.Module):
    """Rows of numbers under addresses 0 .. rows - 1. All are zero at first, so that a new table adds nothing.

    Args:
        rows: number of rows.
        width: numbers of a row.
    """

    hints = {"rows": Hint(learning_rate=RATE, decay=False, matrix=False, sparse=True)}  # noqa: RUF012

    def __init__(self, rows: int, width: int) -> None:
        super().__init__()
        self.rows = nn.Parameter(torch.zeros(rows, width))

    @torch.compiler.disable  # a sparse gradient is beyond the compiler; looking up is nothing that it could speed up
    def forward(self, address: Int64[Tensor, "*rest"]) -> Float[Tensor, "*rest d"]:
        """The rows under some addresses."""
        return F.embedding(address, self.rows, sparse=True)
