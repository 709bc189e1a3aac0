"""A table of rows that are looked up: its training cost depends on the rows of a batch, not on those of the table.

The gradient of a table is sparse: it holds the rows that were looked up, once each, and an optimizer touches only
these. So a table may be far larger than what a step could afford to read, and than memory (see `storage.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from everlong.core.accounting import Hint
from everlong.kernels.rows import read_rows, sum_by_row
from everlong.memory.storage import is_mapped, zeros


class _LookUp(torch.autograd.Function):
    """`embedding`, with a gradient in which every row stands once. Merging on the way takes half the time of torch's
    own, which first lists every place that looked a row up."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, address: Tensor) -> Tensor:
        ctx.save_for_backward(address)
        ctx.shape = rows.shape
        return read_rows(rows, address.flatten()).unflatten(0, address.shape)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]  # torch names it otherwise
        row_U, g_UD = sum_by_row(ctx.saved_tensors[0].flatten(), g.flatten(0, -2).contiguous())
        return torch.sparse_coo_tensor(row_U[None], g_UD, ctx.shape, is_coalesced=True, check_invariants=False), None


class Table(nn.Module):
    """Rows of numbers under addresses 0 .. rows - 1. All are zero at first, so that a new table adds nothing.

    Args:
        rows: number of rows.
        width: numbers of a row.
    """

    hints = {"rows": Hint(decay=False, matrix=False, sparse=True)}  # noqa: RUF012

    def __init__(self, rows: int, width: int) -> None:
        super().__init__()
        self.rows = nn.Parameter(zeros(rows, width))

    @torch.compiler.disable  # a sparse gradient is beyond the compiler; looking up is nothing that it could speed up
    def forward(self, address: Int64[Tensor, "*rest"]) -> Float[Tensor, "*rest d"]:
        """The rows under some addresses, on the addresses' device."""
        return _LookUp.apply(self.rows, address.to(self.rows.device)).to(address.device)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Table:
        """Moves with its module, but for a table in a file, which stays there."""
        return self if is_mapped(self.rows) else super()._apply(fn, recurse)
