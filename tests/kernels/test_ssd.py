"""State-space duality against the recurrence in float64, with gradients; fast decays; mutants; errors.

Legend: B batch rows, T positions, H heads, P head size, G groups, N state size, J = H P / G.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from everlong.core.errors import ConfigError, ContextError
from everlong.kernels import ssd as kernel
from everlong.kernels import ssd_blocks
from everlong.kernels.ssd import ssd
from everlong.testing.compare import assert_near, pattern
from tests.kernels.mutation import mutated

Q = 8  # positions of a chunk, in these tests


@pytest.fixture(autouse=True)
def small_chunks() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, size in (("CHUNK", Q), ("PAIRWISE", 4), ("BLOCK", 2 * Q)):
            patch.setattr(ssd_blocks, name, size)
        yield


def problem(
    T: int, G: int, rate: float, documents: bool, seed: int = 0, B: int = 2
) -> tuple[list[Tensor], Tensor | None]:
    """x, dt, A, B, C and a state, which ask for gradients, and documents; some of them of one position."""
    H, P, N = 4, 3, 5
    draw = torch.Generator().manual_seed(seed)
    shapes = [(B, T, H, P), (B, T, H), (H,), (B, T, G, N), (B, T, G, N), (B, G, N, H // G * P)]
    x, dt, A, b, c, s = (torch.randn(shape, generator=draw, dtype=torch.float64) for shape in shapes)
    starts = torch.rand(B, T, generator=draw) < 0.3
    inputs = [x, dt.sigmoid(), -rate * (0.1 + A.abs()), b, c, s]
    return [z.requires_grad_() for z in inputs], starts.cumsum(1) if documents else None


def recurrence(inputs: list[Tensor], documents: Tensor | None) -> tuple[Tensor, Tensor]:
    """S_t = exp(A dt_t) S_{t-1} + B_t (dt_t x_t)^T, y_t = C_t^T S_t, from S = 0 where a document begins."""
    x, dt, A, b, c, s = inputs
    (B, T, H, P), (G, N) = x.shape, b.shape[2:]
    documents = torch.zeros(B, T) if documents is None else documents
    s, before, outputs = s.view(B, G, N, H // G, P), torch.zeros(B), []
    for t in range(T):
        goes_on = (documents[:, t] == before).double()[:, None, None, None, None]
        decay = (A * dt[:, t]).exp().view(B, G, 1, H // G, 1)
        X = (x[:, t] * dt[:, t, :, None]).view(B, G, 1, H // G, P)
        s, before = s * decay * goes_on + b[:, t, :, :, None, None] * X, documents[:, t]
        outputs.append((c[:, t, :, :, None, None] * s).sum(2).reshape(B, H, P))
    return torch.stack(outputs, dim=1), s.flatten(-2)


def check_agrees(inputs: list[Tensor], documents: Tensor | None) -> None:
    """Raises AssertionError if outputs or state are off by 1e-12, or a gradient by 1e-11."""
    found = ssd(*inputs[:5], state=inputs[5], documents=documents)
    expected = recurrence(inputs, documents)
    for name, one, other in zip(("output", "state"), found, expected, strict=True):
        assert_near(one, other, 1e-12, name)
    one, other = (
        torch.autograd.grad((y * pattern(y)).sum() + (s * pattern(s)).sum(), inputs) for y, s in (found, expected)
    )
    for name, a, b in zip(("x", "dt", "A", "B", "C", "state"), one, other, strict=True):
        assert_near(a, b, 1e-11, f"gradient of {name}")


LENGTHS = (1, 2, 3, Q - 1, Q, Q + 1, 2 * Q, 3 * Q + 5)


@pytest.mark.parametrize("T", LENGTHS)
@pytest.mark.parametrize("G", [1, 2, 4])
@pytest.mark.parametrize("rate", [1.0, 100.0], ids=["factored", "pairwise"])
@pytest.mark.parametrize("documents", [False, True], ids=["plain", "packed"])
def test_agrees_with_the_recurrence(T: int, G: int, rate: float, documents: bool) -> None:
    check_agrees(*problem(T, G, rate, documents))


def test_block_by_block() -> None:
    """One call may hold blocks of both forms."""
    inputs, documents = problem(6 * Q, 2, 1.0, True)
    inputs[1].data[:, 2 * Q : 4 * Q] *= 300
    forms = [
        ssd_blocks.cut_block([z.detach() for z in (*inputs[:2], inputs[1] * inputs[2], *inputs[3:5])], None, *at)
        for at in ssd_blocks.blocks(6 * Q)
    ]
    assert [form.decay.pair is None for form in forms] == [True, False, True]
    check_agrees(inputs, documents)


@pytest.mark.parametrize("cut", range(1, 3 * Q))
def test_any_split(cut: int) -> None:
    inputs, _ = problem(3 * Q, 2, 1.0, False)
    x, dt, A, b, c, s = inputs
    y, after = ssd(x, dt, A, b, c, state=s)
    one, middle = ssd(x[:, :cut], dt[:, :cut], A, b[:, :cut], c[:, :cut], state=s)
    other, last = ssd(x[:, cut:], dt[:, cut:], A, b[:, cut:], c[:, cut:], state=middle)
    parts = torch.cat([one, other], dim=1)
    assert_near(parts, y, 1e-12, "output")
    assert_near(last, after, 1e-12, "state")
    whole, cut_up = (
        torch.autograd.grad((z * pattern(z)).sum() + s.sum(), inputs) for z, s in ((y, after), (parts, last))
    )
    for a, b in zip(cut_up, whole, strict=True):
        assert_near(a, b, 1e-11, "gradient")


def test_padding_changes_nothing() -> None:
    """A step of size 0 leaves the state as it is, whatever stands there."""
    inputs, _ = problem(Q, 1, 1.0, False)
    x, dt, A, b, c, s = inputs
    _, after = ssd(x, torch.zeros_like(dt), A, b * 1e30, c, state=s)
    assert torch.equal(after, s)


@pytest.mark.parametrize(
    ("rate", "step", "gradient"), [(16, 0.1, 2e-5), (32, 0.1, 2e-5), (64, 0.1, 2e-5), (64, 2.0, 1e-4), (1e3, 1e2, 5e-2)]
)
def test_fast_decays_in_float32(rate: float, step: float, gradient: float) -> None:
    """Where the factored form alone gives NaN. The gradient of a rate is what is left of large sums that cancel."""
    with pytest.MonkeyPatch.context() as patch:
        for name, size in (("CHUNK", 64), ("PAIRWISE", 16), ("BLOCK", 512)):
            patch.setattr(ssd_blocks, name, size)
        draw = torch.Generator().manual_seed(0)
        T, H, P, N = 300, 32, 8, 16
        shapes = [(1, T, H, P), (1, T, H), (1, T, 1, N), (1, T, 1, N), (1, 1, N, H * P)]
        x, dt, b, c, s = (torch.randn(shape, generator=draw) for shape in shapes)
        dt, A = torch.rand(dt.shape, generator=draw) * step, -torch.linspace(1, rate, H)
        low = [z.clone().requires_grad_() for z in (x, dt, A, b, c, s)]
        high = [z.double().requires_grad_() for z in (x, dt, A, b, c, s)]
        found, expected = (ssd(*z[:5], state=z[5]) for z in (low, high))
        for name, one, other in zip(("output", "state"), found, expected, strict=True):
            assert_near(one, other.detach(), 5e-6, name)
        grads, exact = (torch.autograd.grad(y.sum() + s.sum(), z) for (y, s), z in ((found, low), (expected, high)))
        for one, other in zip(grads, exact, strict=True):
            assert one.isfinite().all()
            assert_near(one, other, gradient, "gradient")


MUTANTS = {
    "the diagonal is left out": (".tril_()\n    key, query", ".tril_(-1)\n    key, query"),
    "documents meet within a chunk": ("scores * masks.pair, key * masks.kept", "scores, key * masks.kept"),
    "an old document is kept": ("key * masks.kept", "key"),
    "a new document hears the state": ("query * masks.carried", "query"),
    "the state outlives its document": ("kept=masks.whole if decay.kept is None else decay.kept * masks.whole", ""),
    "the state is met before its decay": ("(-rest).exp(), middle[:, :, :, 0].exp(), None", "(-rest).exp(), None, None"),
    "keys are added before their decay": ("None, rest[:, :, :, -1].exp(), None)", "None, None, None)"),
    "pairs decay once too often": ("~earlier.tril(-1), 0)", "~earlier, 0)"),
    "the ends have no gradient": ("g_sum[:, :, -1] += ends", "pass"),
    "documents meet in the gradient": ("g_scores * block.masks.pair, gC", "g_scores, gC"),
    "later pairs have a gradient": ("block.values.transpose(-1, -2)).tril_()", "block.values.transpose(-1, -2))"),
    "the sums run the wrong way": ("g_sum.flip(2).cumsum(2).flip(2)", "g_sum.cumsum(2)"),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_catches(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant = mutated(ssd_blocks, *MUTANTS[name])
    for constant in ("CHUNK", "PAIRWISE", "BLOCK"):
        setattr(mutant, constant, getattr(ssd_blocks, constant))
    for function in ("blocks", "cut_block", "gradients", "output", "states_of"):
        monkeypatch.setattr(kernel, function, getattr(mutant, function))
    with pytest.raises(AssertionError, match="differs"):  # noqa: PT012
        for rate in (1.0, 100.0):
            check_agrees(*problem(3 * Q + 5, 2, rate, documents=True, seed=1))


def test_wrong_inputs() -> None:
    (x, dt, A, b, c, s), _ = problem(4, 2, 1.0, False)
    with pytest.raises(ConfigError, match="ssd groups = 3: must divide heads = 4"):
        ssd(x, dt, A, torch.zeros(2, 4, 3, 5), torch.zeros(2, 4, 3, 5))
    with pytest.raises(ContextError, match="must hold at least one position"):
        ssd(x[:, :0], dt[:, :0], A, b[:, :0], c[:, :0])
    with pytest.raises(ContextError, match=r"state = \(2, 2, 5, 5\): must be \(2, 2, 5, 6\)"):
        ssd(x, dt, A, b, c, state=s[..., 1:])
    for backwards in ([[0, 1, 0, 1]] * 2, [[-1, 0, 0, 0]] * 2):
        with pytest.raises(ContextError, match="documents = 'falling numbers'"):
            ssd(x, dt, A, b, c, documents=torch.tensor(backwards))
