"""Partial attention against the oracle: one masked softmax, in float64, with gradients by autograd."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from everlong.core.errors import ConfigError
from everlong.kernels import attention as kernel
from everlong.kernels import attention_fused
from everlong.kernels.attention import attend, attention, attention_backend, reference
from everlong.kernels.pieces import Piece, View, encode
from everlong.testing.compare import assert_near, pattern
from tests.kernels.mutation import mutated
from tests.kernels.random_pieces import Problem, problem
from tests.oracles import pieces as oracle

Attention = Callable[..., tuple[Tensor, Tensor]]
seeds = st.integers(0, 2**16)


def check_agrees(attention: Attention, case: Problem) -> None:
    """Raises AssertionError if output, log-sum-exp or a gradient is off by 1e-13."""
    scale = 0.6  # not the default, so that none is forgotten
    inputs = case.leaves()
    out, lse = attention(*inputs, case.pieces, case.visibility, scale)
    expected_out, expected_lse = oracle.attend(*inputs, case.count_HQK, scale)
    assert not lse.requires_grad
    assert_near(out, expected_out, 1e-13, "output")
    assert torch.equal(lse.isneginf(), expected_lse.isneginf()), "which queries see nothing"
    assert_near(lse.nan_to_num(neginf=0), expected_lse.nan_to_num(neginf=0), 1e-13, "log-sum-exp")
    found, expected = (torch.autograd.grad((y * pattern(y)).sum(), inputs) for y in (out, expected_out))
    for name, one, other in zip("qkv", found, expected, strict=True):
        assert_near(one, other, 1e-13, f"gradient of {name}")


def check_many(attention: Attention, problems: int) -> None:
    """Half of them have visibility by the data."""
    for seed in range(problems):
        check_agrees(attention, problem(seed, by_data=seed % 2 == 1))


FORMS: dict[str, Attention] = {"fast": attention_fused.fused_attention, "reference": reference}


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=60)
@given(seed=seeds, by_data=st.booleans())
def test_agrees_with_oracle(form: str, seed: int, by_data: bool) -> None:
    check_agrees(FORMS[form], problem(seed, by_data=by_data))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("T", [511, 512, 1030])
def test_long_causal_square(form: str, T: int) -> None:
    """Where squares are halved, and a row spans several tiles of the kernel."""
    q, k, v = (torch.randn(1, T, heads, 4, dtype=torch.float64, requires_grad=True) for heads in (2, 1, 1))
    out, lse = FORMS[form](q, k, v, (Piece(View(0, 1, T, T), View(0, 1, T, T), high=0),), None, 0.5)
    expected, expected_lse = oracle.attend(q, k, v, torch.ones(T, T).tril().bool(), 0.5)
    assert_near(out, expected, 1e-13, "output")
    assert_near(lse, expected_lse, 1e-13, "log-sum-exp")
    gradients = zip(*(torch.autograd.grad((y * pattern(y)).sum(), (q, k, v)) for y in (out, expected)), strict=True)
    for name, (one, other) in zip("qkv", gradients, strict=True):
        assert_near(one, other, 1e-12, f"gradient of {name}")


@pytest.mark.parametrize("form", FORMS)
def test_gradcheck(form: str) -> None:
    case = problem(39, by_data=True)  # small, and of two pieces
    inputs = case.leaves()
    assert torch.autograd.gradcheck(lambda q, k, v: FORMS[form](q, k, v, case.pieces, case.visibility, 0.7)[0], inputs)


@pytest.mark.parametrize("form", FORMS)
def test_queries_without_keys(form: str) -> None:
    """Query 0 sees nothing within its piece, query 3 is in no piece: output 0, log-sum-exp -inf, no gradient."""
    q, k, v = (torch.randn(1, T, 2, 4, dtype=torch.float64, requires_grad=True) for T in (4, 3, 3))
    pieces = (Piece(View(0, 1, 4, 3), View(0, 1, 3, 3), high=-1),)
    out, lse = FORMS[form](q, k, v, pieces, None, 0.5)
    assert lse[0, [0, 3]].isneginf().all()
    assert lse[0, [1, 2]].isfinite().all()
    assert (out[0, [0, 3]] == 0).all()
    gradients = torch.autograd.grad(out.square().sum() + out.sum(), (q, k, v))
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert (gradients[0][0, [0, 3]] == 0).all()
    assert (gradients[1][0, 2] == 0).all()  # key 2 is seen by nobody


@pytest.mark.parametrize("form", FORMS)
def test_no_keys_at_all(form: str) -> None:
    q, k, v = (torch.randn(1, T, 2, 4, requires_grad=True) for T in (4, 0, 0))
    out, lse = FORMS[form](q, k, v, (Piece(View(0, 1, 4, 4), View(0, 1, 0, 0)),), None, 0.5)
    assert lse.isneginf().all()
    assert (out == 0).all()
    assert (torch.autograd.grad(out.sum(), q)[0] == 0).all()


@pytest.mark.parametrize("form", FORMS)
def test_any_strides(form: str) -> None:
    """A row of one position counts as contiguous whatever its stride; the values alone decide."""
    q, k, v = (torch.randn(1, 3, 2, 4, dtype=torch.float64).transpose(0, 1) for _ in "qkv")
    assert q.is_contiguous()
    assert q.stride(1) != 2 * 4
    check_agrees(FORMS[form], Problem(q, k, v, (Piece(View(0, 3, 1, 1), View(0, 3, 1, 1)),)))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-6), (torch.bfloat16, 2e-2)])
@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_lower_precision(backend: kernel.Backend, dtype: torch.dtype, tolerance: float) -> None:
    for seed in range(20):
        case = problem(seed, dtype=dtype)
        inputs = case.leaves()
        with attention_backend(backend):
            out, lse = attention(*inputs, case.pieces)
        assert out.dtype == dtype
        assert lse.dtype == torch.float32
        exact = case.double().leaves()
        expected, _ = oracle.attend(*exact, case.count_HQK, case.q_BTHD.shape[-1] ** -0.5)
        assert_near(out, expected, tolerance, "output")
        weight = pattern(expected)
        found = torch.autograd.grad((out * weight.to(dtype)).sum(), inputs)
        for one, other in zip(found, torch.autograd.grad((expected * weight).sum(), exact), strict=True):
            assert_near(one, other, 2 * tolerance, "gradient")


def test_is_torchs_attention() -> None:
    """Against torch's public operator, with its default scale."""
    q, k, v = (torch.randn(2, 9, 3, 8, dtype=torch.float64) for _ in "qkv")
    out, _ = attention(q, k, v, (Piece(View(0, 2, 9, 9), View(0, 2, 9, 9), high=0),))
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    expected = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2)
    assert_near(out, expected, 1e-14, "output")


def test_heads_must_divide() -> None:
    q, k = torch.randn(1, 2, 4, 8), torch.randn(1, 2, 3, 8)
    with pytest.raises(ConfigError, match=r"kv_heads = 3.*4"):
        attention(q, k, k, ())


class TestOperator:
    """The custom operators, and what stands in when torch's own changes."""

    @pytest.mark.parametrize("by_data", [False, True])
    def test_opcheck(self, by_data: bool) -> None:
        case = problem(3, by_data=by_data)
        inputs = case.leaves()
        visibility = case.visibility.tensors() if case.visibility else []
        torch.library.opcheck(attention_fused._fused, (*inputs, visibility, encode(case.pieces), 0.5))

    def test_is_available_here(self) -> None:
        """Else every test of the fast form would test the reference against itself."""
        assert attention_fused.fused_available(torch.zeros(1))

    def test_falls_back(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without an operator that is known, the numbers stay."""
        case = problem(5)
        arguments = (case.q_BTHD, case.k_BSGD, case.v_BSGD, case.pieces)
        fast, _ = attention(*arguments)
        monkeypatch.setitem(attention_fused.FITS, "cpu", False)
        monkeypatch.setattr(kernel, "fused_attention", None)
        slow, _ = attention(*arguments)
        assert_near(slow, fast, 1e-13, "output")


def test_one_square_is_the_whole_pattern(monkeypatch: pytest.MonkeyPatch) -> None:
    """On an accelerator, only causal attention of whole rows goes to the operator that can do nothing else."""
    taken = []
    monkeypatch.setattr(kernel, "one_causal_square", lambda q, k, v, scale: taken.append(q.shape) or q)
    q = torch.randn(1, 6, 2, 4, device="meta")
    attend(q, q, q, (Piece(View(0, 1, 6, 6), View(0, 1, 6, 6), high=0),))
    assert len(taken) == 1
    attend(q, q, q, (Piece(View(0, 6, 1, 1), View(0, 6, 1, 1), high=0),))  # everyone sees itself only
    attend(q, q, q, (Piece(View(0, 1, 3, 3), View(0, 1, 3, 3), high=0),))  # the first half only
    attend(q, q, q, (Piece(View(0, 1, 6, 6), View(0, 1, 6, 6)),))  # not causal
    assert len(taken) == 1


def test_one_square() -> None:
    q, k, v = (torch.randn(2, 9, heads, 8, dtype=torch.float64) for heads in (4, 2, 2))
    seen = torch.block_diag(*[torch.ones(9, 9).tril()] * 2).bool()
    assert_near(kernel.one_causal_square(q, k, v), oracle.attend(q, k, v, seen, 8**-0.5)[0], 1e-13, "output")


MUTANTS = {
    "merges without weights": (
        "share = torch.sigmoid(part_lse - lse_NHL).nan_to_num_(0.0)",
        "share = torch.full_like(part_lse, 0.5)",
    ),
    "backward with its own log-sum-exp": (
        ".backward(met, grad_NHLD, out_NHLD, lse_NHL)",
        ".backward(met, grad_NHLD, out_NHLD, OPERATORS['cpu'].forward(met)[1])",
    ),
    "backward with its own output": (
        ".backward(met, grad_NHLD, out_NHLD, lse_NHL)",
        ".backward(met, grad_NHLD, OPERATORS['cpu'].forward(met)[0], lse_NHL)",
    ),
    "gradients overwrite each other": ("view.of(total).add_(share)", "view.of(total).copy_(share)"),
    "empty rows unhandled in backward": ("lse = lse.masked_fill(lse == -torch.inf, torch.inf)", "pass"),
    "no mask": ("None if causal else visible_pairs(piece, by_data, q.device)", "None"),
    "every mask is causal": ("visible, causal, scale)", "visible, visible is None, scale)"),
    "pieces one after the other": ("torch.logaddexp(lse_NHL, part_lse)", "part_lse"),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_catches(name: str) -> None:
    """Twenty random problems are enough to tell every mutant of the fast form."""
    mutant = mutated(attention_fused, *MUTANTS[name])
    with pytest.raises(AssertionError):
        check_many(mutant.fused_attention, 20)
