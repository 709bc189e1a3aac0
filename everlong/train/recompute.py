"""Activation checkpointing, applied to a model from outside (Chen et al. 2016, arXiv 1604.06174).

Between forward and backward, a block keeps its input only, and is run again when its gradient is due.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from everlong.model.stack import Stack


@contextmanager
def recomputed(model: nn.Module, *, carry: bool) -> Iterator[None]:
    """Every block of every stack of `model` is recomputed inside the context, whenever gradients are asked for.

    Args:
        carry: keep the blocks' states, which hold on to keys and values while the rest of the forward runs.
    """
    stacks = [module for module in model.modules() if isinstance(module, Stack)]
    blocks = {block: None for stack in stacks for block in stack.blocks if not _holds_stack(block)}
    for block in blocks:
        block.forward = _recomputing(block.forward, carry)  # an instance's attribute, which hides the class's method
    try:
        yield
    finally:
        for block in blocks:
            del block.forward


def _holds_stack(block: nn.Module) -> bool:
    """Whether a block is itself made of blocks, which then are the ones to recompute."""
    return any(isinstance(module, Stack) for module in block.modules())


def _recomputing(forward: Callable[..., Any], carry: bool) -> Callable[..., Any]:
    def run(x_BTD: torch.Tensor, span: Any, state: Any = None) -> tuple[torch.Tensor, Any]:
        if not torch.is_grad_enabled():
            return forward(x_BTD, span, state)
        y_BTD, after = checkpoint(forward, x_BTD, span, state, use_reentrant=False)
        return y_BTD, after if carry else None

    return run
