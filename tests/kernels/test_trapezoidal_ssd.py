"""The recurrence of Mamba-3 against a loop over positions in float64, with gradients; splits; mutants; errors.

Legend: B batch rows, T positions, H heads, P size of a value, N size of a key.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from everlong.core.errors import ContextError
from everlong.kernels import ssd_blocks, trapezoidal_ssd
from everlong.testing.compare import assert_near, pattern
from tests.kernels.mutation import mutated

Q = 4  # positions of a chunk, in these tests
NAMES = ("v", "w", "u", "a", "k", "q", "last key", "last value", "state")


@pytest.fixture(autouse=True)
def small_chunks() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, size in (("CHUNK", Q), ("PAIRWISE", 2), ("BLOCK", 2 * Q)):
            patch.setattr(ssd_blocks, name, size)
        yield


def problem(T: int, packed: bool, seed: int = 0) -> tuple[list[Tensor], Tensor | None]:
    """v, w, u, a, k, q, a pair and a state, which ask for gradients, and documents; some of them of one position."""
    B, H, P, N = 2, 3, 2, 5
    draw = torch.Generator().manual_seed(seed)
    shapes = [(B, T, H, P), *[(B, T, H)] * 3, *[(B, T, H, N)] * 2, (B, H, N), (B, H, P), (B, H, N, P)]
    inputs = [torch.randn(shape, generator=draw, dtype=torch.float64) for shape in shapes]
    inputs[3] = -inputs[3].abs()
    starts = torch.rand(B, T, generator=draw) < 0.3
    return [z.requires_grad_() for z in inputs], starts.cumsum(1) if packed else None


def run(inputs: list[Tensor], documents: Tensor | None, **more: Tensor) -> list[Tensor]:
    """y, S, and the last pair."""
    *own, k, v, s = inputs
    y, s, pair = trapezoidal_ssd.trapezoidal_ssd(*own, before=(k, v), state=s, documents=documents, **more)
    return [y, s, *pair]


def recurrence(inputs: list[Tensor], documents: Tensor | None) -> list[Tensor]:
    """S_t = exp(a_t) S_{t-1} + w_t k_t v_t^T + u_t k_{t-1} v_{t-1}^T, y_t = S_t^T q_t; all from 0 where a document
    begins."""
    v, w, u, a, k, q, k_before, v_before, s = inputs
    documents = torch.zeros(v.shape[:2]) if documents is None else documents
    number, outputs = torch.zeros(len(v)), []
    for t in range(v.shape[1]):
        goes_on = (documents[:, t] == number).double()[:, None, None, None]
        s, number = s * a[:, t].exp()[..., None, None] * goes_on, documents[:, t]
        s = s + (w[:, t, :, None] * k[:, t])[..., None] * v[:, t][:, :, None]
        s = s + goes_on * (u[:, t, :, None] * k_before)[..., None] * v_before[:, :, None]
        outputs.append((q[:, t][..., None] * s).sum(2))
        k_before, v_before = k[:, t], v[:, t]
    return [torch.stack(outputs, dim=1), s, k_before, v_before]


def check_agrees(inputs: list[Tensor], documents: Tensor | None) -> None:
    """Raises AssertionError if what is returned is off by 1e-12, or a gradient by 1e-11."""
    found, expected = run(inputs, documents), recurrence(inputs, documents)
    for name, one, other in zip(("output", "state", "key", "value"), found, expected, strict=True):
        assert_near(one, other, 1e-12, name)
    one, other = (
        torch.autograd.grad(sum((z * pattern(z)).sum() for z in returned), inputs) for returned in (found, expected)
    )
    for name, a, b in zip(NAMES, one, other, strict=True):
        assert_near(a, b, 1e-11, f"gradient of {name}")


@pytest.mark.parametrize("T", [1, 2, Q - 1, Q, Q + 1, 2 * Q, 3 * Q + 3])
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "packed"])
def test_agrees_with_the_recurrence(T: int, packed: bool) -> None:
    check_agrees(*problem(T, packed))


@pytest.mark.parametrize("cut", range(1, 2 * Q + 1))
def test_any_split(cut: int) -> None:
    """The pair that is handed over counts."""
    inputs, _ = problem(2 * Q + 1, packed=False)
    whole = run(inputs, None)
    first = run([z[:, :cut] for z in inputs[:6]] + inputs[6:], None)
    second = run([z[:, cut:] for z in inputs[:6]] + [*first[2:], first[1]], None)
    assert_near(torch.cat([first[0], second[0]], dim=1), whole[0], 1e-12, "output")
    for one, other in zip(second[1:], whole[1:], strict=True):
        assert_near(one, other, 1e-12, "state")


def test_rows_that_end_early() -> None:
    """Each keeps its own last pair; one without a position keeps what it came with."""
    inputs, _ = problem(Q, packed=False)
    for z in inputs[1:4]:
        z.data[0] = 0
        z.data[1, 2:] = 0
    _, s, k, v = run(inputs, None, count_B=torch.tensor([0, 2]))
    _, expected, *pair = recurrence([z[1:, :2] for z in inputs[:6]] + [z[1:] for z in inputs[6:]], None)
    for one, other in zip((s[1:], k[1:], v[1:]), (expected, *pair), strict=True):
        assert_near(one, other, 1e-12, "of two positions")
    for one, other in zip((s[:1], k[:1], v[:1]), (inputs[8][:1], inputs[6][:1], inputs[7][:1]), strict=True):
        assert_near(one, other, 1e-12, "of none")


MUTANTS = {
    "the pair of another document is heard": ("        u = u * (documents.diff", "        0 * (documents.diff"),
    "the pair before the first is lost": ("[before_BHN[:, None], x_BTHN]", "[0 * before_BHN[:, None], x_BTHN]"),
    "a step forgets its document": ("a_B1H[:, 0].exp() * (documents_B1 == 0)", "a_B1H[:, 0].exp()"),
    "a step swaps its weights": ("torch.stack([u, w], -1)", "torch.stack([w, u], -1)"),
    "the state misses the pairs before": ("y + earlier, s_BHNP + added", "y + earlier, s_BHNP"),
    "the earlier pairs meet other documents": (
        "u, a, k_joined[:, :-1], q, documents=documents)",
        "u, a, k_joined[:, :-1], q)",
    ),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_catches(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = MUTANTS[name]
    monkeypatch.setattr(trapezoidal_ssd, "trapezoidal_ssd", mutated(trapezoidal_ssd, old, new).trapezoidal_ssd)
    with pytest.raises(AssertionError, match="differs"):  # noqa: PT012
        for T in (1, 3 * Q + 3):
            check_agrees(*problem(T, packed=True, seed=1))


@pytest.mark.parametrize("T", [1, 3])
def test_wrong_states(T: int) -> None:
    v, w, u, a, k, q, last_k, last_v, s = problem(T, packed=False)[0]
    for wrong, message in (
        ({"before": (last_k[..., 1:], last_v)}, r"last key = \(2, 3, 4\): must be \(2, 3, 5\)"),
        ({"before": (last_k, last_v[:1])}, r"last value = \(1, 3, 2\): must be \(2, 3, 2\)"),
        ({"state": s[..., 1:]}, r"state = \(2, 3, 5, 1\): must be \(2, 3, 5, 2\)"),
    ):
        with pytest.raises(ContextError, match=message):
            trapezoidal_ssd.trapezoidal_ssd(v, w, u, a, k, q, **wrong)
