"""Rows of choices and their way back, against torch's indexing; gradients; mutants."""

from __future__ import annotations

import pytest
import torch

from everlong.kernels import choices
from everlong.kernels.choices import put_back, rows_of
from everlong.testing.compare import pattern
from tests.kernels.mutation import mutated

N, K, D = 7, 3, 4


@pytest.mark.parametrize("taken", [0, 1, N, N * K])
def test_equals_indexing(taken: int) -> None:
    """Whole orders, and those that leave choices out."""
    order_J = torch.randperm(N * K)[:taken]
    x_ND = torch.randn(N, D, dtype=torch.float64, requires_grad=True)
    found, expected = rows_of(x_ND, order_J, K), x_ND[order_J // K]
    assert torch.equal(found, expected)
    back = put_back(found, order_J, N * K)
    there = torch.zeros(N * K, D, dtype=torch.float64).index_put((order_J,), expected)
    assert torch.equal(back, there)
    one, other = (torch.autograd.grad((y * pattern(y)).sum(), x_ND)[0] for y in (back, there))
    torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


def test_gradients_are_those_of_small_differences() -> None:
    order_J = torch.randperm(N * K)[: N * K - 2]
    x_ND = torch.randn(N, D, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: put_back(rows_of(x, order_J, K), order_J, N * K), x_ND)


MUTANTS = {
    "gradients are not put back": ("index_copy_(0, order_J, grad_JD)", "copy_(grad_JD)"),
    "one choice of a row alone teaches it": (".sum(1), None", "[:, 0], None"),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_catches(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant = mutated(choices, *MUTANTS[name])
    monkeypatch.setitem(globals(), "rows_of", mutant.rows_of)
    with pytest.raises(AssertionError):
        test_equals_indexing(N * K)
