"""The gated delta rule against its recurrence in float64, with gradients; chunks of any length; mutants; errors.

Legend: B batch rows, T positions, H heads, K key size, V value size.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from everlong.core.errors import ContextError
from everlong.kernels import delta_rule as kernel
from everlong.kernels.delta_rule import delta_rule
from everlong.testing.compare import assert_near, pattern
from tests.kernels.mutation import mutated

Q = 8  # positions of a chunk, in these tests
Rule = Callable[..., tuple[Tensor, Tensor]]


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "CHUNK", Q)


def problem(T: int, rate: float, documents: bool, seed: int = 0) -> tuple[list[Tensor], Tensor | None]:
    """q, k, v, g, beta and a state, which ask for gradients, and documents; beta is up to 2."""
    B, H, K, V = 2, 2, 5, 3
    draw = torch.Generator().manual_seed(seed)
    shapes = [(B, T, H, K), (B, T, H, K), (B, T, H, V), (B, T, H), (B, T, H), (B, H, K, V)]
    q, k, v, g, beta, s = (torch.randn(shape, generator=draw, dtype=torch.float64) for shape in shapes)
    starts = torch.rand(B, T, generator=draw) < 0.3
    inputs = [q, F.normalize(k, dim=-1), v, -rate * g.abs(), 2 * beta.sigmoid(), s]
    return [z.requires_grad_() for z in inputs], starts.cumsum(1) if documents else None


def recurrence(inputs: list[Tensor], documents: Tensor | None) -> tuple[Tensor, Tensor]:
    """S_t = exp(g_t) (I - beta_t k_t k_t^T) S_{t-1} + beta_t k_t v_t^T, o_t = S_t^T q_t."""
    q, k, v, g, beta, s = inputs
    before, outputs = torch.zeros(len(q)), []
    for t in range(q.shape[1]):
        now = torch.zeros(len(q)) if documents is None else documents[:, t]
        s = s * (now == before).double()[:, None, None, None] * g[:, t].exp()[..., None, None]
        k_BHK1, beta_BH11 = k[:, t, :, :, None], beta[:, t, :, None, None]
        s = s - beta_BH11 * k_BHK1 @ (k_BHK1.transpose(-1, -2) @ s) + beta_BH11 * k_BHK1 @ v[:, t, :, None]
        outputs.append((q[:, t, :, None] @ s)[:, :, 0])
        before = now
    return torch.stack(outputs, dim=1), s


def check_agrees(rule: Rule, inputs: list[Tensor], documents: Tensor | None) -> None:
    """Raises AssertionError if outputs or state are off by 1e-12, or a gradient by 1e-11."""
    found, expected = rule(*inputs[:5], state=inputs[5], documents=documents), recurrence(inputs, documents)
    for name, one, other in zip(("output", "state"), found, expected, strict=True):
        assert_near(one, other, 1e-12, name)
    one, other = (
        torch.autograd.grad((o * pattern(o)).sum() + (s * pattern(s)).sum(), inputs) for o, s in (found, expected)
    )
    for name, a, b in zip(("q", "k", "v", "g", "beta", "state"), one, other, strict=True):
        assert_near(a, b, 1e-11, f"gradient of {name}")


@pytest.mark.parametrize("T", [1, 2, Q - 1, Q, Q + 1, 2 * Q, 3 * Q + 5])
@pytest.mark.parametrize("rate", [0.0, 0.1, 100.0], ids=["delta", "gated", "fast"])
@pytest.mark.parametrize("documents", [False, True], ids=["plain", "packed"])
def test_agrees_with_the_recurrence(T: int, rate: float, documents: bool) -> None:
    check_agrees(delta_rule, *problem(T, rate, documents))


def test_padding_changes_nothing() -> None:
    (q, k, v, g, beta, s), _ = problem(Q + 3, 1.0, False)
    assert torch.equal(delta_rule(q, k, v, 0 * g, 0 * beta, state=s)[1], s)


def test_a_key_is_replaced() -> None:
    """With beta = 1 and no decay, what a key of length 1 finds is what was last stored under it."""
    k = F.normalize(torch.randn(1, 1, 1, 5, dtype=torch.float64), dim=-1).expand(1, 4, 1, 5)
    v = torch.randn(1, 4, 1, 3, dtype=torch.float64)
    o, _ = delta_rule(k, k, v, torch.zeros(1, 4, 1), torch.ones(1, 4, 1))
    assert_near(o, v, 1e-12, "what was stored")


MUTANTS = {
    "additions do not know of each other": ("keys.tril(-1) + torch.eye", "0 * keys + torch.eye"),
    "the own position is left out": (
        "steps.cumsum(-2).masked_fill(~earlier,",
        "steps.cumsum(-2).masked_fill(~earlier.tril(-1),",
    ),
    "the state is read before its decay": ("carried = (q * decay.into)", "carried = q"),
    "the state replaces nothing": ("u[:, c] - w[:, c] @ states[-1]", "u[:, c]"),
    "documents meet": ("pair * (own[..., :, None] == own[..., None, :])", "pair"),
    "documents hear the state": ("into = into * (own == before)[..., None]", "into = into * 1"),
    "pairs decay once too often": ("~earlier.tril(-1), 0)", "~earlier, 0)"),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_catches(name: str) -> None:
    mutant = mutated(kernel, *MUTANTS[name])
    mutant.CHUNK = Q
    with pytest.raises(AssertionError, match="differs"):
        check_agrees(mutant.delta_rule, *problem(3 * Q + 5, 0.5, documents=True, seed=1))


def test_wrong_inputs() -> None:
    (q, k, v, g, beta, s), _ = problem(4, 1.0, False)
    with pytest.raises(ContextError, match="must hold at least one position"):
        delta_rule(*(z[:, :0] for z in (q, k, v, g, beta)))
    with pytest.raises(ContextError, match=r"state = \(1, 2, 5, 3\): must be \(2, 2, 5, 3\)"):
        delta_rule(q, k, v, g, beta, state=s[:1])
