"""Rows of choices, sorted, and what became of them summed where they came from: each is the other's gradient.

Legend: N rows, k choices of each, M = N k choices, of which choice m belongs to row floor(m / k); J of them, D width.

torch's own gradient of `index_select` adds row after row, on one core. A choice stands in an order once, so here the
choices of a row are summed by a bag of embeddings, by all of them, in the order in which they were made.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor


def rows_of(x_ND: Float[Tensor, "n d"], order_J: Int64[Tensor, " j"], k: int) -> Float[Tensor, "j d"]:
    """The row of every choice of an order, in which each stands at most once."""
    return _RowsOf.apply(x_ND, order_J, k)  # type: ignore[no-any-return]  # autograd.Function is not typed


def sum_of(y_JD: Float[Tensor, "j d"], order_J: Int64[Tensor, " j"], k: int, rows: int) -> Float[Tensor, "n d"]:
    """The sum of every row's choices, of N = `rows`; 0 where none of them is in the order."""
    return _SumOf.apply(y_JD, order_J, k, rows)  # type: ignore[no-any-return]  # autograd.Function is not typed


class _RowsOf(torch.autograd.Function):
    @staticmethod
    def forward(x_ND: Tensor, order_J: Tensor, k: int) -> Tensor:  # type: ignore[override]
        return x_ND.index_select(0, order_J // k)

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        x_ND, order_J, ctx.k = inputs
        ctx.rows = x_ND.shape[0]
        ctx.save_for_backward(order_J)

    @staticmethod
    def backward(ctx, grad_JD: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        (order_J,) = ctx.saved_tensors
        return sum_of(grad_JD, order_J, ctx.k, ctx.rows), None, None


class _SumOf(torch.autograd.Function):
    @staticmethod
    def forward(y_JD: Tensor, order_J: Tensor, k: int, rows: int) -> Tensor:  # type: ignore[override]
        count_N = order_J.new_zeros(rows).scatter_add(0, order_J // k, torch.ones_like(order_J))
        return F.embedding_bag(order_J.argsort(), y_JD.contiguous(), count_N.cumsum(0) - count_N, mode="sum")

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        _, order_J, ctx.k, _ = inputs
        ctx.save_for_backward(order_J)

    @staticmethod
    def backward(ctx, grad_ND: Tensor) -> tuple[Tensor, None, None, None]:  # type: ignore[override]
        (order_J,) = ctx.saved_tensors
        return rows_of(grad_ND, order_J, ctx.k), None, None, None
