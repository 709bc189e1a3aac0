"""The gated layer of experts, block by block: y = silu(gate) * input * weight, row by row.

Legend: J rows, F hidden width; a row of x is [gate, input].

Four small operations, and a dozen with their gradients, of which each would move (J, F) through memory. Here a block of
rows, small enough for a cache, is taken through all of them, and the backward pass computes them again: nothing is kept
but what came in, and gate and input get their gradients in one tensor.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

BLOCK = 2**17
"""Numbers of a block."""


def gated(x_J2F: Float[Tensor, "j two_f"], weight_J: Float[Tensor, " j"]) -> Float[Tensor, "j f"]:
    """silu(gate) * input * weight, in the dtype of x."""
    weight_J = weight_J.to(x_J2F.dtype)
    return _gated(x_J2F, weight_J) if x_J2F.is_cpu else _block(x_J2F, weight_J)


def _block(x_J2F: Tensor, weight_J: Tensor) -> Tensor:
    """Of one block."""
    gate_JF, input_JF = x_J2F.chunk(2, dim=-1)
    return F.silu(gate_JF) * input_JF * weight_J[:, None]


def _rows(x_J2F: Tensor) -> Iterator[slice]:
    size = max(1, BLOCK // x_J2F.shape[1])
    return (slice(j, j + size) for j in range(0, len(x_J2F), size))


@torch.library.custom_op("everlong::gated", mutates_args=(), schema="(Tensor x, Tensor weight) -> Tensor")
def _gated(x: Tensor, weight: Tensor) -> Tensor:
    y = x.new_empty(x.shape[0], x.shape[1] // 2)
    for j in _rows(x):
        y[j] = _block(x[j], weight[j])
    return y


@_gated.register_fake
def _(x, weight):
    return x.new_empty(x.shape[0], x.shape[1] // 2)


@torch.library.custom_op(
    "everlong::gated_backward", mutates_args=(), schema="(Tensor grad, Tensor x, Tensor weight) -> (Tensor, Tensor)"
)
def _gated_backward(grad: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    gx, gweight = x.new_empty(x.shape), weight.new_empty(weight.shape)
    for j in _rows(x):
        (gate_JF, input_JF), (ggate_JF, ginput_JF) = x[j].chunk(2, dim=-1), gx[j].chunk(2, dim=-1)
        open_JF = F.silu(gate_JF)
        gopen_JF = grad[j] * input_JF
        gweight[j] = (gopen_JF * open_JF).sum(-1)
        gopen_JF.mul_(weight[j, None])
        torch.mul(open_JF.mul_(grad[j]), weight[j, None], out=ginput_JF)
        torch.ops.aten.silu_backward.grad_input(gopen_JF, gate_JF, grad_input=ggate_JF)
    return gx, gweight


@_gated_backward.register_fake
def _(grad, x, weight):
    return x.new_empty(x.shape), weight.new_empty(weight.shape)


def _setup_context(ctx, inputs, output) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx, grad):
    return _gated_backward(grad, *ctx.saved_tensors)


_gated.register_autograd(_backward, setup_context=_setup_context)
