"""The selective scan against its recurrence in float64, with gradients; mutants; errors.

Legend: B batch rows, T positions, E channels, N state size.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from everlong.core.errors import ContextError
from everlong.kernels import selective_scan as kernel
from everlong.kernels.selective_scan import selective_scan
from everlong.testing.compare import assert_near, pattern
from tests.kernels.mutation import mutated

Q = 4  # positions of a chunk, in these tests


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "CHUNK", Q)


def problem(T: int, rate: float, documents: bool, seed: int = 0) -> tuple[list[Tensor], Tensor | None]:
    """x, dt, A, B, C and a state, which ask for gradients, and documents."""
    B, E, N = 2, 5, 3
    draw = torch.Generator().manual_seed(seed)
    shapes = [(B, T, E), (B, T, E), (E, N), (B, T, N), (B, T, N), (B, E, N)]
    x, dt, A, b, c, h = (torch.randn(shape, generator=draw, dtype=torch.float64) for shape in shapes)
    starts = torch.rand(B, T, generator=draw) < 0.3
    return [z.requires_grad_() for z in (x, dt.sigmoid(), -rate * A.abs(), b, c, h)], starts.cumsum(
        1
    ) if documents else None


def check_agrees(scan, inputs: list[Tensor], documents: Tensor | None) -> None:
    """Raises AssertionError if outputs or state are off by 1e-12, or a gradient by 1e-11."""
    x, dt, A, b, c, h = inputs
    before, outputs = torch.zeros(len(x)), []
    for t in range(x.shape[1]):
        now = torch.zeros(len(x)) if documents is None else documents[:, t]
        goes_on = (now == before).double()[:, None, None]
        h = (dt[:, t, :, None] * A).exp() * h * goes_on + (dt[:, t] * x[:, t])[..., None] * b[:, t, None]
        outputs.append((h * c[:, t, None]).sum(-1))
        before = now
    found, expected = scan(*inputs[:5], state=inputs[5], documents=documents), (torch.stack(outputs, dim=1), h)
    for name, one, other in zip(("output", "state"), found, expected, strict=True):
        assert_near(one, other, 1e-12, name)
    one, other = (
        torch.autograd.grad((y * pattern(y)).sum() + (h * pattern(h)).sum(), inputs) for y, h in (found, expected)
    )
    for name, a, b in zip(("x", "dt", "A", "B", "C", "state"), one, other, strict=True):
        assert_near(a, b, 1e-11, f"gradient of {name}")


@pytest.mark.parametrize("T", [1, 2, Q - 1, Q, Q + 1, 3 * Q + 2])
@pytest.mark.parametrize("rate", [1.0, 1000.0], ids=["slow", "fast"])
@pytest.mark.parametrize("documents", [False, True], ids=["plain", "packed"])
def test_agrees_with_the_recurrence(T: int, rate: float, documents: bool) -> None:
    check_agrees(selective_scan, *problem(T, rate, documents))


MUTANTS = {
    "documents meet": ("goes_on[:, :, i, :, None] for", "1 for"),
    "chunks do not know of each other": ("torch.addcmul(end[:, c], total[:, c], states[-1])", "end[:, c]"),
    "chunks decay by their last step": (
        "torch.addcmul(add, decay, end), total * decay",
        "torch.addcmul(add, decay, end), decay",
    ),
    "what is added decays": ("h = torch.addcmul(added[i], decays[i], h)", "h = (added[i] + h) * decays[i]"),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_catches(name: str) -> None:
    mutant = mutated(kernel, *MUTANTS[name])
    mutant.CHUNK = Q
    with pytest.raises(AssertionError, match="differs"):
        check_agrees(mutant.selective_scan, *problem(3 * Q + 2, 0.5, documents=True, seed=3))


def test_wrong_inputs() -> None:
    (x, dt, A, b, c, _), _ = problem(4, 1.0, False)
    with pytest.raises(ContextError, match="must hold at least one position"):
        selective_scan(x[:, :0], dt[:, :0], A, b[:, :0], c[:, :0])
    with pytest.raises(ContextError, match=r"state = \(2, 5, 4\): must be \(2, 5, 3\)"):
        selective_scan(x, dt, A, b, c, state=torch.zeros(2, 5, 4))
