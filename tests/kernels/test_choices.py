"""Rows of choices and their way back, against torch's indexing; gradients; mutants."""

from __future__ import annotations

import pytest
import torch

from everlong.kernels import choices
from everlong.kernels.choices import rows_of, sum_of
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
    weight_JD = torch.arange(1.0, taken + 1, dtype=torch.float64)[:, None].expand(taken, D)
    back = sum_of(found * weight_JD, order_J, K, N)
    there = torch.zeros(N * K, D, dtype=torch.float64).index_put((order_J,), expected * weight_JD)
    there = there.unflatten(0, (N, K)).sum(1)
    torch.testing.assert_close(back, there, rtol=0, atol=1e-12)
    one, other = (torch.autograd.grad((y * pattern(y)).sum(), x_ND)[0] for y in (back, there))
    torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


def test_gradients_are_those_of_small_differences() -> None:
    order_J = torch.randperm(N * K)[: N * K - 2]
    x_ND = torch.randn(N, D, dtype=torch.float64, requires_grad=True)
    check = (lambda x: sum_of(rows_of(x, order_J, K) ** 2, order_J, K, N), x_ND)
    assert torch.autograd.gradcheck(*check)
    assert torch.autograd.gradgradcheck(*check)


MUTANTS = {
    "rows are those of other choices": ("order_J // k)", "order_J % k)"),
    "choices are not put in order": ("order_J.argsort()", "order_J.argsort().argsort()"),
    "all choices are the last row's": ("count_N.cumsum(0) - count_N", "count_N * 0"),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_catches(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant = mutated(choices, *MUTANTS[name])
    monkeypatch.setitem(globals(), "rows_of", mutant.rows_of)
    monkeypatch.setitem(globals(), "sum_of", mutant.sum_of)
    with pytest.raises(AssertionError):
        test_equals_indexing(N * K)
