"""What joins parts: SwiGLU, residuals, blocks and stacks."""

from __future__ import annotations

import torch
from torch import Tensor

from everlong.model.stack import Block, Residual, Stack
from everlong.width.swiglu import SwiGLU
from tests.oracles.parts import Weights, norm, oracle, run, under


@oracle(SwiGLU.Config)
def swiglu(_config: SwiGLU.Config, weights: Weights, x_TD: Tensor, _ids_T: Tensor) -> Tensor:
    """W_out (silu(W_gate x) * W_in x)."""
    gate = x_TD @ weights["gate.weight"].T
    return (gate / (1 + torch.exp(-gate)) * (x_TD @ weights["input.weight"].T)) @ weights["out.weight"].T


@oracle(Residual.Config)
def residual(config: Residual.Config, weights: Weights, x_TD: Tensor, ids_T: Tensor) -> Tensor:
    """x + inner(x)."""
    return x_TD + run(config.inner, under(weights, "inner."), x_TD, ids_T)


@oracle(Block.Config)
def block(config: Block.Config, weights: Weights, x_TD: Tensor, ids_T: Tensor) -> Tensor:
    """x + mixer(norm(x)), then x + feed_forward(norm(x))."""
    for name, part in (("mixer", config.mixer), ("feed_forward", config.feed_forward)):
        normed_TD = norm(x_TD, weights[f"{name}_norm.weight"], config.eps)
        x_TD = x_TD + run(part, under(weights, f"{name}."), normed_TD, ids_T)
    return x_TD


@oracle(Stack.Config)
def stack(config: Stack.Config, weights: Weights, x_TD: Tensor, ids_T: Tensor) -> Tensor:
    """One part after the other, then a norm."""
    for i, part in enumerate(config.blocks):
        x_TD = run(part, under(weights, f"blocks.{i}."), x_TD, ids_T)
    return norm(x_TD, weights["norm.weight"], config.eps)
