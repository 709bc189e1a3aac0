"""Reading a compressive memory block by block is reading it position by position, and so are its gradients."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch
from torch import Tensor

from everlong.kernels import recall
from everlong.testing.compare import assert_near
from tests.kernels.mutation import mutated

SHAPES = {"one block": (2, 5, 4, 2), "a stretch a block": (3, 7, 2, 2), "four positions a block": (2, 9, 6, 3)}
BLOCKS = {"one block": 2**17, "a stretch a block": 7 * 2 * 3, "four positions a block": 4 * 6 * 3}


def inputs(N: int, L: int, H: int, G: int, E: int = 3, F: int = 4) -> list[Tensor]:
    """Queries, what was heard locally, memories of which the first is empty, and shares."""
    memory_NGEK = torch.rand(N, G, E, F + 1, dtype=torch.float64)
    memory_NGEK[0] = 0
    q_NLHE, local_NLHF = torch.randn(N, L, H, E, dtype=torch.float64), torch.randn(N, L, H, F, dtype=torch.float64)
    return [x.requires_grad_() for x in (q_NLHE, local_NLHF, memory_NGEK, torch.rand(H, dtype=torch.float64))]


def by_definition(q_NLHE: Tensor, local_NLHF: Tensor, memory_NGEK: Tensor, share_H: Tensor) -> Tensor:
    """Eq. 7 and 10, one query at a time."""
    (N, L, H, _), group = q_NLHE.shape, q_NLHE.shape[2] // memory_NGEK.shape[1]
    y_NLHF = local_NLHF.clone()
    for n in range(1, N):
        for t in range(L):
            for h in range(H):
                s_E = torch.nn.functional.elu(q_NLHE[n, t, h]) + 1
                m_EF, z_E = memory_NGEK[n, h // group, :, :-1], memory_NGEK[n, h // group, :, -1]
                y_NLHF[n, t, h] = (1 - share_H[h]) * local_NLHF[n, t, h] + share_H[h] * (s_E @ m_EF) / (s_E @ z_E)
    return y_NLHF


@pytest.mark.parametrize("case", SHAPES)
def test_blocks_are_the_definition(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recall, "BLOCK", BLOCKS[case])
    given = inputs(*SHAPES[case])
    y, right = recall.read(*given), by_definition(*given)
    assert_near(y, right, 1e-12, "values")
    seed = torch.randn_like(y)
    found, expected = torch.autograd.grad(y, given, seed), torch.autograd.grad(right, given, seed)
    for mine, theirs in zip(found, expected, strict=True):
        mine, theirs = (x[1:] if x.shape == given[2].shape else x for x in (mine, theirs))  # an empty one has no slope
        assert_near(mine, theirs, 1e-11, "gradients")


def test_an_empty_memory_changes_nothing() -> None:
    q, local, memory, share = inputs(1, 6, 2, 1)
    y = recall.read(q, local, memory, share)
    assert torch.equal(y, local)
    gradients = torch.autograd.grad(y.sum(), [q, local, memory, share])
    assert not gradients[0].any()
    assert (gradients[1] == 1).all()
    assert all(gradient.isfinite().all() for gradient in gradients)


def finite(module: ModuleType, level: float, L: int) -> bool:
    """Whether values and gradients in single precision are, of queries around a level."""
    q, *others = (x.detach().float() for x in inputs(3, L, 4, 2))
    given = [x.requires_grad_() for x in (q + level, *others)]
    y = module.read(*given)
    return all(x.isfinite().all() for x in (y, *torch.autograd.grad(y.square().sum(), given)))


@pytest.mark.parametrize("level", [-20.0, -44.0, -50.0, -87.0, -95.0, -103.0, -120.0])
@pytest.mark.parametrize("L", [1, 4])
def test_queries_that_ask_for_next_to_nothing(level: float, L: int) -> None:
    """A weight that float32 holds, but not its reciprocal or the square of that, counts as none."""
    assert finite(recall, level, L)


@pytest.mark.parametrize("L", [1, 4])
def test_catches_reciprocals_that_overflow(L: int) -> None:
    mutant = mutated(recall, "weight > torch.finfo(weight.dtype).tiny ** 0.5", "weight > 0")
    assert finite(mutant, -20.0, L)
    assert not finite(mutant, -50.0, L)
    assert not finite(mutant, -95.0, L)


@pytest.mark.parametrize(("size", "count"), [(1, 20), (40, 10), (100, 3), (1000, 1)])
def test_blocks_cover_all_once(size: int, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recall, "BLOCK", size)
    q = torch.zeros(5, 4, 6, 1, 2)
    seen = torch.zeros(5, 4)
    for n, t in recall.blocks(q):
        seen[n, t] += 1
    assert (seen == 1).all()
    assert sum(1 for _ in recall.blocks(q)) == count


def test_the_operator_keeps_its_contract() -> None:
    q, local, memory, share = inputs(2, 3, 4, 2)
    shaped = (q.unflatten(2, (2, 2)), local.unflatten(2, (2, 2)), memory, share.view(2, 2))
    torch.library.opcheck(recall._read, tuple(x.detach().requires_grad_() for x in shaped))


def test_a_query_alone_is_read_without_blocks() -> None:
    given = inputs(2, 1, 4, 2)
    assert_near(recall.read(*given), by_definition(*given), 1e-12, "one position")


def test_half_precision_is_read_in_the_memorys() -> None:
    q, local, memory, share = (x.detach() for x in inputs(2, 6, 4, 2))
    q, local = q.bfloat16(), local.bfloat16()
    half = recall.read(q, local, memory.float(), share.float())
    assert half.dtype == torch.bfloat16
    assert_near(half.double(), recall.read(q.double(), local.double(), memory, share), 2e-2, "half")
