"""Activation checkpointing, applied to a model from outside (Chen et al. 2016, arXiv 1604.06174).

Between forward and backward, a block keeps its input only, and is run again when its gradient is due. Many rows are
taken in groups then, so that no more is held than what one of them needs: a million bytes in patches are a hundred
thousand rows of a block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from everlong.core.span import Span
from everlong.model.stack import Stack

POSITIONS = 2**14
"""Of a group of rows."""


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
    def run(x_BTD: torch.Tensor, span: Span, state: Any = None) -> tuple[torch.Tensor, Any]:
        if not torch.is_grad_enabled():
            return forward(x_BTD, span, state)
        rows = POSITIONS // x_BTD.shape[1]
        if state is None and span.plain and not carry and 0 < rows < len(x_BTD):
            grouped = _in_groups(forward, x_BTD, span, rows)
            if grouped is not None:
                return grouped, None
        y_BTD, after = checkpoint(forward, x_BTD, span, state, use_reentrant=False)
        return y_BTD, after if carry else None

    return run


def _in_groups(forward: Callable[..., Any], x_BTD: torch.Tensor, span: Span, rows: int) -> torch.Tensor | None:
    """The block's output, group by group; `None` if it reports or shows something, which is of all rows together."""
    found = []
    for begin in range(0, len(x_BTD), rows):
        own = slice(begin, begin + rows)
        position = span.position_BT if len(span.position_BT) == 1 else span.position_BT[own]
        part = replace(span, ids_BT=span.ids_BT[own], position_BT=position, auxiliary={}, observed={})
        y_NTD, _ = checkpoint(forward, x_BTD[own], part, None, use_reentrant=False)
        if part.auxiliary or part.observed:
            return None
        found.append(y_NTD)
    return torch.cat(found)
