"""Products in groups: the fast form against the definition."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from everlong.kernels import grouped
from everlong.kernels.grouped import fast, grouped_product, one_by_one

COUNTS = [[3, 0, 7, 2], [12, 0, 0, 0], [0, 0, 0, 12], [3, 3, 3, 3]]


def operands(dtype: torch.dtype, inner: int = 16, outer: int = 24) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = ((12, inner), (4, inner, outer))
    x_ND, w_EDF = (torch.randn(shape, generator=generator).to(dtype).requires_grad_() for shape in shapes)
    return x_ND, w_EDF


@pytest.mark.parametrize("counts", COUNTS, ids=repr)
def test_the_definition(counts: list[int]) -> None:
    x_ND, w_EDF = operands(torch.float64)
    groups = torch.arange(4).repeat_interleave(torch.tensor(counts))
    expected = torch.stack([x_D @ w_EDF[g] for x_D, g in zip(x_ND, groups, strict=True)])
    torch.testing.assert_close(one_by_one(x_ND, w_EDF, torch.tensor(counts)), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("counts", COUNTS, ids=repr)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_fast_is_the_definition(counts: list[int], dtype: torch.dtype) -> None:
    (x_ND, w_EDF), count_E = operands(dtype), torch.tensor(counts)
    answers = []
    for form in (fast, one_by_one):
        y_NF = form(x_ND, w_EDF, count_E)
        answers.append([y_NF, *torch.autograd.grad((y_NF.float().sin() ** 2).sum(), (x_ND, w_EDF))])
    for one, other in zip(*answers, strict=True):
        torch.testing.assert_close(one.float(), other.float(), rtol=4 * torch.finfo(dtype).eps, atol=1e-2)


def test_no_rows() -> None:
    for dtype in (torch.float32, torch.float64):
        x_ND, w_EDF = operands(dtype)
        assert grouped_product(x_ND[:0], w_EDF, torch.zeros(4, dtype=torch.int64)).shape == (0, 24)


@pytest.mark.parametrize(
    ("dtype", "inner", "form"),
    [
        (torch.float32, 16, "fast"),
        (torch.bfloat16, 16, "fast"),
        (torch.float64, 16, "plain"),
        (torch.float32, 6, "plain"),
        (torch.bfloat16, 12, "plain"),
    ],
)
def test_takes_the_form_that_fits(dtype: torch.dtype, inner: int, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = []
    monkeypatch.setattr(grouped, "fast", lambda *args: (taken.append("fast"), fast(*args))[1])
    monkeypatch.setattr(grouped, "one_by_one", lambda *args: (taken.append("plain"), one_by_one(*args))[1])
    grouped_product(*operands(dtype, inner), torch.tensor(COUNTS[0]))
    assert taken == [form]


def test_another_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """An operator with another signature is not trusted."""
    assert grouped.available()
    monkeypatch.setattr(grouped, "SCHEMA", "aten::_grouped_mm(Tensor self) -> Tensor")
    monkeypatch.setattr(grouped, "fast", None)
    grouped_product(*operands(torch.float32), torch.tensor(COUNTS[0]))


def test_autocast() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y_NF = grouped_product(*operands(torch.float32), torch.tensor(COUNTS[0]))
    assert y_NF.dtype == torch.bfloat16
    y_NF.float().square().sum().backward()
