"""Every matrix, alone or in a stack, is updated as torch's Muon would update it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import everlong
from everlong.train import Muon, matrix_muon
from everlong.train.matrix_muon import MatrixMuon, orthogonal
from everlong.train.precision import dtype_of


@pytest.mark.parametrize("shape", [(3, 16, 24), (2, 24, 16), (4, 8, 8), (1, 5, 3), (16, 24), (5, 3)])
def test_it_is_torchs_matrix_by_matrix(shape, monkeypatch):
    monkeypatch.setattr(matrix_muon, "native_precision", lambda device: "bfloat16")
    torch.manual_seed(0)
    stack = nn.Parameter(torch.randn(shape))
    alone = [nn.Parameter(matrix.clone()) for matrix in matrices(stack.detach())]
    ours = MatrixMuon([stack], lr=0.02, weight_decay=0.3, momentum=0.9)
    theirs = torch.optim.Muon(alone, lr=0.02, weight_decay=0.3, momentum=0.9, adjust_lr_fn="match_rms_adamw")
    for _ in range(4):
        stack.grad = torch.randn(shape)
        for matrix, gradient in zip(alone, matrices(stack.grad), strict=True):
            matrix.grad = gradient.clone()
        ours.step()
        theirs.step()
    expected = torch.stack([matrix.detach() for matrix in alone]).reshape(shape)
    torch.testing.assert_close(stack.detach(), expected, rtol=0, atol=2e-4)


def matrices(stack: torch.Tensor) -> torch.Tensor:
    """The matrices of a stack; a matrix alone is a stack of one."""
    return stack.reshape(-1, *stack.shape[-2:])


@pytest.mark.parametrize(("precision", "error"), [("float32", 1e-4), ("bfloat16", 0.1)])
def test_it_orthogonalises_in_what_the_device_multiplies(precision, error, monkeypatch):
    monkeypatch.setattr(matrix_muon, "native_precision", lambda device: precision)
    torch.manual_seed(0)
    x_NAB = torch.randn(3, 12, 20)
    found, exact = orthogonal(x_NAB), iterated(x_NAB.double())
    assert found.dtype == dtype_of(precision)
    assert error / 1e3 < (found.double() - exact).abs().max() < error


def iterated(x_NAB: torch.Tensor) -> torch.Tensor:
    """The quintic iteration in float64, as it is printed."""
    y_NAB = x_NAB / x_NAB.norm(dim=(1, 2), keepdim=True)
    for _ in range(5):
        gram_NAA = y_NAB @ y_NAB.mT
        y_NAB = 3.4445 * y_NAB + (-4.7750 * gram_NAA + 2.0315 * gram_NAA @ gram_NAA) @ y_NAB
    return y_NAB


def test_a_matrix_without_a_gradient_stays_but_for_its_decay():
    stack = nn.Parameter(torch.ones(2, 4, 4))
    stack.grad = torch.stack([torch.zeros(4, 4), torch.eye(4)])
    MatrixMuon([stack], lr=0.1, weight_decay=0.5).step()
    torch.testing.assert_close(stack[0].detach(), torch.full((4, 4), 0.95))
    assert not torch.allclose(stack[1], stack[0])


def test_singular_values_come_near_one():
    torch.manual_seed(0)
    found = torch.linalg.svdvals(orthogonal(torch.randn(5, 12, 20)).float())
    assert found.min() > 0.5
    assert found.max() < 1.3


def test_what_it_remembers_goes_by_name_and_is_exact():
    torch.manual_seed(0)
    models = [everlong.build("moe:nano", layers=2, width=16, heads=1, experts=4) for _ in range(2)]
    saved, fresh = (Muon.Config().build(model) for model in models)

    def update(which: int) -> None:
        generator = torch.Generator().manual_seed(1)
        for parameter in models[which].parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        (saved, fresh)[which].step(1.0)

    update(0)
    assert "momentum_buffer:body.blocks.1.feed_forward.input.weight" in saved.tensors()
    models[1].load_state_dict(models[0].state_dict())
    fresh.load({name: tensor.clone() for name, tensor in saved.tensors().items()}, saved.groups())
    update(0)
    update(1)
    for name, parameter in models[0].named_parameters():
        assert torch.equal(parameter, models[1].get_parameter(name)), name
