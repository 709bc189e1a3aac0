"""Compiles dilated attention as one graph and compares it with eager, in a process of its own: the type checks of the
test run are no code that a compiler can trace. Run by `test_dilated.py`."""

from __future__ import annotations

import torch
from torch import Tensor

from everlong.sequence.dilated import dilated_attention
from everlong.testing.compare import assert_near


def check(H: int, G: int) -> None:
    """Raises AssertionError if output or a gradient differs at all."""
    inputs = [torch.randn(2, 45, heads, 8, dtype=torch.float64, requires_grad=True) for heads in (H, G, G)]

    def loss(*inputs: Tensor) -> Tensor:
        return dilated_attention(*inputs, (8, 20, 64), (1, 3, 5)).cos().sum()

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager", dynamic=False)
    for one, other in zip(_answers(compiled, inputs), _answers(loss, inputs), strict=True):
        assert_near(one, other, 0.0, "compiled against eager")


def _answers(loss, inputs: list[Tensor]) -> tuple[Tensor, ...]:
    value = loss(*inputs)
    return (value, *torch.autograd.grad(value, inputs))


if __name__ == "__main__":
    torch.set_num_threads(1)
    for heads in ((4, 4), (6, 2)):
        check(*heads)
