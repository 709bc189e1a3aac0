"""How laws compare: what differs is named, and a NaN is never equal to anything."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree


def assert_near(actual: Tensor, expected: Tensor, tolerance: float, what: str) -> None:
    """Every element within `tolerance`, relative to the largest expected one if that is above 1."""
    assert actual.shape == expected.shape, f"{what}: shape {tuple(actual.shape)}, expected {tuple(expected.shape)}"
    if actual.numel() == 0:
        return
    error = (actual.double() - expected.double()).abs().max().item()
    limit = tolerance * max(1.0, expected.double().abs().max().item())
    assert error <= limit, f"{what}: differs by {error:.3g}, allowed {limit:.3g}"


def assert_states_near(actual: Any, expected: Any, tolerance: float) -> None:
    """The same tree, and the same numbers in it."""
    (actual_leaves, actual_tree), (leaves, tree) = pytree.tree_flatten(actual), pytree.tree_flatten(expected)
    assert actual_tree == tree, f"final state: tree {actual_tree}, expected {tree}"
    for i, (one, other) in enumerate(zip(actual_leaves, leaves, strict=True)):
        if isinstance(other, Tensor):
            assert one.dtype == other.dtype, f"final state, leaf {i}: {one.dtype}, expected {other.dtype}"
            assert_near(one, other, tolerance, f"final state, leaf {i}")
        else:
            assert one is other, f"final state, leaf {i}: {one}, expected {other}"


def gradients_of(loss: Tensor, inputs: Iterable[Tensor]) -> list[Tensor]:
    """Gradients with all their rows; that of a table as it comes holds only those which were looked up. Of a frozen
    parameter it is zero."""
    inputs = list(inputs)
    learnt = [x for x in inputs if x.requires_grad]
    found = iter(torch.autograd.grad(loss, learnt, allow_unused=True, materialize_grads=True))
    return [next(found).to_dense() if x.requires_grad else torch.zeros_like(x) for x in inputs]


def pattern(x: Tensor) -> Tensor:
    """Fixed weights of no symmetry, to sum a tensor into one number whose gradient tells its elements apart."""
    step = torch.arange(x.numel(), dtype=x.dtype, device=x.device)
    return torch.cos(1.3 * step + 0.5).view(x.shape)
