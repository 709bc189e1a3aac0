"""The gated layer in blocks is the gated layer, and so are its gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from everlong.kernels import gated as kernel
from everlong.testing.compare import assert_near, pattern
from tests.kernels.mutation import mutated


def inputs(J: int = 7, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Rows of gates and inputs, and weights."""
    generator = torch.Generator().manual_seed(0)
    x, weight = (torch.randn(*size, generator=generator, dtype=torch.float64) for size in ((J, 10), (J,)))
    return x.to(dtype).requires_grad_(), weight.to(dtype).requires_grad_()


def by_definition(x_J2F: Tensor, weight_J: Tensor) -> Tensor:
    """As it is written."""
    gate, other = x_J2F[:, :5], x_J2F[:, 5:]
    return gate / (1 + torch.exp(-gate)) * other * weight_J[:, None]


def check(module: object, given: tuple[Tensor, Tensor], tolerance: float = 1e-13) -> None:
    """Raises AssertionError if a value or a gradient is off."""
    one, other = module.gated(*given), by_definition(*given)  # type: ignore[attr-defined]
    assert_near(one, other, tolerance, "values")
    gradients = (torch.autograd.grad((y * pattern(y)).sum(), given) for y in (one, other))
    for mine, theirs in zip(*gradients, strict=True):
        assert_near(mine, theirs, tolerance, "gradients")


@pytest.mark.parametrize("block", [10, 25, 2**17])
def test_blocks_are_the_definition(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "BLOCK", block)
    check(kernel, inputs())


def test_whole_is_the_definition() -> None:
    """Where there are no blocks: on an accelerator."""
    assert_near(kernel._block(*inputs()), by_definition(*inputs()), 1e-13, "values")


def test_no_rows() -> None:
    check(kernel, inputs(0))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 2e-2)])
def test_lower_precision(dtype: torch.dtype, tolerance: float) -> None:
    found = kernel.gated(*inputs(dtype=dtype))
    assert found.dtype == dtype
    assert_near(found, by_definition(*(x.double() for x in inputs(dtype=dtype))), tolerance, "values")


def test_the_operator_keeps_its_contract() -> None:
    torch.library.opcheck(kernel._gated, inputs())


MUTANTS = {
    "input without weight": ("torch.mul(open_JF.mul_(grad[j]), weight[j, None],", "torch.mul(open_JF, grad[j],"),
    "gate without weight": ("        gopen_JF.mul_(weight[j, None])\n", ""),
    "gate without slope": (
        "torch.ops.aten.silu_backward.grad_input(gopen_JF, gate_JF, grad_input=ggate_JF)",
        "ggate_JF.copy_(gopen_JF)",
    ),
    "weight by the gate alone": ("(gopen_JF * open_JF).sum(-1)", "(grad[j] * open_JF).sum(-1)"),
    "halves swapped": ("gate_JF, input_JF = x_J2F.chunk", "input_JF, gate_JF = x_J2F.chunk"),
}  # fmt: skip


@pytest.mark.parametrize("name", MUTANTS)
def test_catches(name: str) -> None:
    mutant = mutated(kernel, *MUTANTS[name])
    with pytest.raises(AssertionError):
        check(mutant, inputs())
