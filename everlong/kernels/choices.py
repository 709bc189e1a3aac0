"""Rows of choices, sorted and put back, with gradients that are copied.

Legend: N rows, k choices of each, M = N k choices, of which choice m belongs to row floor(m / k); J of them, D width.

torch's own gradient of `index_select` adds row after row, on one core. A choice stands in an order once, so here its
gradient is copied to its place, by all of them, and the k choices of a row are summed at the end.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor


def rows_of(x_ND: Float[Tensor, "n d"], order_J: Int64[Tensor, " j"], k: int) -> Float[Tensor, "j d"]:
    """The row of every choice of an order, in which each stands at most once."""
    return _RowsOf.apply(x_ND, order_J, k)  # type: ignore[no-any-return]  # autograd.Function is not typed


def put_back(y_JD: Float[Tensor, "j d"], order_J: Int64[Tensor, " j"], count: int) -> Float[Tensor, "m d"]:
    """The inverse: what belongs to choice m stands in row m; 0 where a choice is in no order."""
    return y_JD.new_zeros(count, y_JD.shape[1]).index_copy_(0, order_J, y_JD)


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
        grad_MD = grad_JD.new_zeros(ctx.rows * ctx.k, grad_JD.shape[1]).index_copy_(0, order_J, grad_JD)
        return grad_MD.unflatten(0, (ctx.rows, ctx.k)).sum(1), None, None
