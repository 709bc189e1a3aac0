"""Every matrix of a stack is updated as torch's Muon would update it alone."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from everlong.train.stack_muon import StackMuon, orthogonal


@pytest.mark.parametrize("shape", [(3, 16, 24), (2, 24, 16), (4, 8, 8), (1, 5, 3)])
def test_it_is_torchs_matrix_by_matrix(shape):
    torch.manual_seed(0)
    stack = nn.Parameter(torch.randn(shape))
    alone = [nn.Parameter(matrix.clone()) for matrix in stack.detach()]
    ours = StackMuon([stack], lr=0.02, weight_decay=0.3, momentum=0.9)
    theirs = torch.optim.Muon(alone, lr=0.02, weight_decay=0.3, momentum=0.9, adjust_lr_fn="match_rms_adamw")
    for _ in range(4):
        stack.grad = torch.randn(shape)
        for matrix, gradient in zip(alone, stack.grad, strict=True):
            matrix.grad = gradient.clone()
        ours.step()
        theirs.step()
    torch.testing.assert_close(stack.detach(), torch.stack([matrix.detach() for matrix in alone]), rtol=0, atol=2e-4)


def test_a_matrix_without_a_gradient_stays_but_for_its_decay():
    stack = nn.Parameter(torch.ones(2, 4, 4))
    stack.grad = torch.stack([torch.zeros(4, 4), torch.eye(4)])
    StackMuon([stack], lr=0.1, weight_decay=0.5).step()
    torch.testing.assert_close(stack[0].detach(), torch.full((4, 4), 0.95))
    assert not torch.allclose(stack[1], stack[0])


def test_singular_values_come_near_one():
    torch.manual_seed(0)
    found = torch.linalg.svdvals(orthogonal(torch.randn(5, 12, 20)).float())
    assert found.min() > 0.5
    assert found.max() < 1.3
