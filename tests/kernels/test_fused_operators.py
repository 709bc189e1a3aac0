"""Torch's fused operators behind their interface: those of the CPU as they are, those of CUDA by stand-ins that hold
what is known of them, and, where there is a GPU, as they are."""

from __future__ import annotations

import warnings
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses import FakeTensorMode

from everlong.kernels import attention as kernel
from everlong.kernels import attention_fused, fused_operators
from everlong.kernels.attention import attention
from everlong.kernels.fused_operators import CpuFlash, Cuda, CudaEfficient, CudaFlash, Met, fits
from everlong.kernels.pieces import Piece, View
from tests.kernels.mutation import mutated
from tests.kernels.random_pieces import problem
from tests.kernels.test_attention import check_agrees, check_many

CUDA = torch.cuda.is_available()


# --- Stand-ins ------------------------------------------------------------------------------------------------


def probabilities(q: Tensor, k: Tensor, bias: Tensor | None, causal: bool, scale: float) -> tuple[Tensor, Tensor]:
    """Scores and which of them count, as CUDA's operators take them: causal from the upper left."""
    scores = q @ k.mT * scale + (0 if bias is None else bias)
    visible = torch.ones_like(scores, dtype=torch.bool)
    return scores, visible.tril() if causal else visible


def share(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    lse: Tensor,
    bias: Tensor | None,
    causal: bool,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """The flash backward, from the output and log-sum-exp that are given."""
    scores, visible = probabilities(q, k, bias, causal, scale)
    p = torch.exp(scores - lse[..., None]) * visible
    ds = p * (grad @ v.mT - (grad * out).sum(-1, keepdim=True)) * scale
    return ds @ k, ds.mT @ q, p.mT @ grad


def whole(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, causal: bool, scale: float) -> tuple[Tensor, Tensor]:
    scores, visible = probabilities(q, k, bias, causal, scale)
    scores = scores.masked_fill(~visible, -torch.inf)
    return scores.softmax(-1) @ v, scores.logsumexp(-1)


def aligned(*tensors: Tensor | None, to: int = 8) -> None:
    """The operators refuse other sizes and strides of rows."""
    for x in tensors:
        assert x is None or (x.stride(-1) == 1 and all(s % to == 0 for s in x.stride()[:-1])), "misaligned"


def efficient(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, lse: bool, dropout: float, causal: bool, *, scale: float
) -> tuple[Tensor, ...]:
    assert lse
    assert not dropout
    assert q.shape[1] == k.shape[1] == v.shape[1], "heads"
    assert q.shape[-1] % 8 == 0
    aligned(bias)
    assert bias is None or bias.shape == (*q.shape[:3], k.shape[2])
    out, sums = whole(q, k, v, bias, causal, scale)
    assert not sums.isneginf().any(), "a row without keys is undefined"
    spare = torch.full((*sums.shape[:-1], -sums.shape[-1] % 32), torch.nan, dtype=sums.dtype)
    return out, torch.cat([sums, spare], -1), torch.zeros(()), torch.zeros(())


def efficient_backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, out: Tensor, lse: Tensor,
    seed: Tensor, offset: Tensor, dropout: float, mask: list[bool], causal: bool, *, scale: float,
) -> tuple[Any, ...]:  # fmt: skip
    assert lse.shape[-1] % 32 == 0
    assert lse.is_contiguous()
    aligned(bias)
    assert q.shape[-1] % 8 == out.shape[-1] % 8 == grad.shape[-1] % 8 == 0
    assert mask == [True, True, True, False]
    return *share(grad, q, k, v, out, lse[..., : q.shape[2]], bias, causal, scale), None


def flash(q: Tensor, k: Tensor, v: Tensor, dropout: float, causal: bool, *, scale: float) -> tuple[Tensor, ...]:
    assert q.shape[-1] % 8 == 0
    k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for x in (k, v))
    return (*whole(q, k, v, None, causal, scale), *[torch.zeros(())] * 7)


def flash_backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, lengths_q: None, lengths_k: None,
    longest_q: int, longest_k: int, dropout: float, causal: bool, seed: Tensor, unused: Tensor, *, scale: float,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    assert lse.is_contiguous()
    assert (longest_q, longest_k) == (q.shape[2], k.shape[2])
    groups = q.shape[1] // k.shape[1]
    wide = [x.repeat_interleave(groups, dim=1) for x in (k, v)]
    grad_q, *others = share(grad, q, *wide, out, lse, None, causal, scale)
    grad_k, grad_v = (x.unflatten(1, (-1, groups)).sum(2) for x in others)
    return grad_q, grad_k, grad_v


STAND_INS = SimpleNamespace(
    _scaled_dot_product_efficient_attention=efficient,
    _scaled_dot_product_efficient_attention_backward=efficient_backward,
    _scaled_dot_product_flash_attention=flash,
    _scaled_dot_product_flash_attention_backward=flash_backward,
)


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA's operators, on the CPU and in float64."""
    monkeypatch.setattr(fused_operators, "aten", STAND_INS)
    monkeypatch.setattr(fused_operators, "HALF", (torch.float64,))
    monkeypatch.setitem(attention_fused.OPERATORS, "cpu", Cuda())


def test_cuda_by_stand_ins(pretended: None) -> None:
    @settings(max_examples=60)
    @given(seed=st.integers(0, 2**16), by_data=st.booleans())
    def agrees(seed: int, by_data: bool) -> None:
        check_agrees(attention_fused.fused_attention, problem(seed, by_data=by_data))

    agrees()


MUTANTS = {
    "mask of rows without keys": ("met.visible | ~met.visible.any(-1, keepdim=True)", "met.visible"),
    "no mask backward": ("self._bias(met, met.visible), torch", "None, torch"),
    "mask misaligned": ("_filled(_additive(visible, met.q_NHLD.dtype), 8)", "_additive(visible, met.q_NHLD.dtype)"),
    "log-sum-exp of rows without keys": ("_hidden(lse[..., :L], met.visible)", "lse[..., :L]"),
    "log-sum-exp not filled": ("_filled(lse, 32, torch.inf)", "lse"),
    "heads of one group": ('x.unflatten(1, (groups, -1)).sum(2)', "x.unflatten(1, (groups, -1))[:, :, 0]"),
    "heads in turn": ("x.repeat_interleave(R, dim=1)", "x.repeat(1, R, 1, 1)"),
    "flash with a mask": ("and met.visible is None", ""),
    "backward never causal": ("*lengths, 0.0, causal,", "*lengths, 0.0, False,"),
    "default scale": ("True, 0.0, met.causal, scale=met.scale", "True, 0.0, met.causal, scale=0.5"),
}  # fmt: skip


@pytest.mark.parametrize("name", MUTANTS)
def test_catches(name: str, pretended: None, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant = mutated(fused_operators, *MUTANTS[name])
    mutant.__dict__.update(aten=STAND_INS, HALF=(torch.float64,))
    monkeypatch.setitem(attention_fused.OPERATORS, "cpu", mutant.Cuda())
    with pytest.raises(AssertionError):
        check_many(attention_fused.fused_attention, 60)  # flash takes few of them


# --- Schemas --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("operator", [CpuFlash(), Cuda()])
def test_torch_has_what_is_called(operator: fused_operators.Operator) -> None:
    assert fits(operator)


def test_another_schema_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    name, schema = next(iter(CpuFlash.schemas.items()))
    monkeypatch.setitem(CpuFlash.schemas, name, schema.replace("float? scale", "float scale"))
    assert not fits(CpuFlash())
    monkeypatch.setitem(CpuFlash.schemas, name, schema)
    assert fits(CpuFlash())
    monkeypatch.setitem(CpuFlash.schemas, "absent", "() -> ()")
    assert not fits(CpuFlash())


@pytest.mark.parametrize(
    ("operator", "dtype", "masked"),
    [
        (CudaFlash(), torch.bfloat16, False),
        (CudaEfficient(), torch.float32, False),
        (CudaEfficient(), torch.bfloat16, True),
    ],
)
def test_torch_takes_the_arguments(operator: fused_operators.Operator, dtype: torch.dtype, masked: bool) -> None:
    """By the shapes that torch foresees."""
    q, k, v = (torch.empty(2, heads, n, 24, device="meta", dtype=dtype) for heads, n in ((4, 5), (2, 7), (2, 7)))
    met = Met(q, k, v, torch.ones(5, 7, device="meta").bool() if masked else None, False, 0.5)
    out, lse = operator.forward(met)
    assert (out.shape, lse.shape, lse.dtype) == (q.shape, q.shape[:3], torch.float32)
    for grad, x in zip(operator.backward(met, out, out, lse), (q, k, v), strict=True):
        assert (grad.shape, grad.dtype) == (x.shape, dtype)


def test_what_flash_takes() -> None:
    def met(dtype: torch.dtype, head: int, visible: Tensor | None = None) -> Met:
        x = torch.empty(1, 1, 1, head, dtype=dtype)
        return Met(x, x, x, visible, False, 1.0)

    assert CudaFlash.takes(met(torch.float16, 64))
    assert CudaFlash.takes(met(torch.bfloat16, 256))
    others = [met(torch.float32, 64), met(torch.float16, 60), met(torch.float16, 264), met(torch.float16, 0)]
    assert not any(map(CudaFlash.takes, [*others, met(torch.float16, 64, torch.ones(1, 1).bool())]))


# --- Whether it is used ---------------------------------------------------------------------------------------


class TestAgreement:
    @pytest.fixture(autouse=True)
    def forgotten(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What an earlier test found out."""
        monkeypatch.setattr(kernel, "agrees", kernel.agrees.__wrapped__)

    @pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
    def test_here(self, dtype: torch.dtype) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert kernel.agrees("cpu", dtype)

    def test_is_asked_in_the_clear(self) -> None:
        """Whatever is on where it is asked first."""
        with FakeTensorMode(), torch.inference_mode(), torch.autocast("cpu"):
            assert kernel.agrees("cpu", torch.float32)

    def test_a_wrong_operator_is_not_used(self, monkeypatch: pytest.MonkeyPatch) -> None:
        wrong = mutated(fused_operators, "_hidden(lse, visible)", "lse")
        monkeypatch.setitem(attention_fused.OPERATORS, "cpu", wrong.CpuFlash())
        with pytest.warns(RuntimeWarning, match=r"not used on cpu in torch.float32.*off by"):
            assert not kernel.agrees("cpu", torch.float32)

    def test_one_that_fails_is_not_used(self) -> None:
        with pytest.warns(RuntimeWarning, match="not used on nowhere.*fails"):
            assert not kernel.agrees("nowhere", torch.float32)


@pytest.mark.skipif(not CUDA, reason="there is no GPU")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_on_a_gpu(dtype: torch.dtype) -> None:
    assert kernel.agrees("cuda", dtype)
    square = View(0, 1, 600, 600)
    q, k, v = (torch.randn(1, 600, heads, 64, device="cuda", dtype=dtype) for heads in (4, 2, 2))
    out, _ = attention(q, k, v, (Piece(square, square, high=0),))
    expected = kernel.one_causal_square(q, k, v)
    assert (out - expected).abs().max() < 0.02
