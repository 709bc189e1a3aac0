"""Reading rows of a table, and summing gradients by row: where a table is larger than caches, waiting for memory is
all that it costs.

Torch's bags of embeddings ask for the next rows while they copy these ones, which its indexing does not: on a CPU and a
table of 100M rows that takes a sixth of the time. A bag of one row is the row.

Legend: R rows of a table, N rows that are looked up, U different ones, D numbers of a row.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64, Shaped
from torch import Tensor


def read_rows(table: Shaped[Tensor, "r ..."], row_N: Int64[Tensor, " n"]) -> Shaped[Tensor, "n ..."]:
    """`table[row_N]`, without a gradient."""
    if table.is_cpu and table.dim() == 2:
        return F.embedding_bag(row_N, table, torch.arange(len(row_N)), mode="sum")
    return table.index_select(0, row_N)


def sum_by_row(
    row_N: Int64[Tensor, " n"], g_ND: Float[Tensor, "n d"]
) -> tuple[Int64[Tensor, " u"], Float[Tensor, "u d"]]:
    """The different rows, growing, and the sum of what was given for each, in the order in which it was given."""
    sorted_N, order_N = row_N.sort(stable=True)
    row_U, count_U = sorted_N.unique_consecutive(return_counts=True)
    if not g_ND.is_cpu:
        which_N = torch.arange(len(row_U), device=g_ND.device).repeat_interleave(count_U)
        return row_U, g_ND.new_zeros(len(row_U), g_ND.shape[1]).index_add_(0, which_N, g_ND[order_N])
    return row_U, F.embedding_bag(order_N, g_ND, count_U.cumsum(0) - count_U, mode="sum")
