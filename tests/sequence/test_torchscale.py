"""torchscale's dilated attention against its oracle, with gradients; and where it meets the paper's, and where not.

Legend: B batch rows, N positions, H heads, D head size.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from types import ModuleType

import pytest
import torch
from torch import Tensor

from everlong.core.errors import ConfigError, ContextError
from everlong.kernels.attention import attention_backend
from everlong.sequence import torchscale
from everlong.sequence.dilated import dilated_attention
from everlong.sequence.torchscale import torchscale_attention
from everlong.testing.compare import assert_near, pattern
from tests.kernels.mutation import mutated
from tests.oracles import torchscale as oracle

Schedule = tuple[tuple[int, ...], tuple[int, ...]]


def problem(seed: int) -> tuple[list[Tensor], Schedule]:
    """Queries, keys and values, and branches that mostly divide neither lengths nor heads. Some have no dilation 1;
    some queries are zero, so that where a segment is one row a head, a log-sum-exp is 0."""
    draw, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    B, N, H, D = draw.randint(1, 3), draw.randint(1, 50), draw.randint(1, 9), draw.choice([1, 4, 8])
    dilations = sorted(draw.sample(range(1, 9), draw.randint(1, 4)))
    dilations[0] = dilations[0] if draw.random() < 0.3 else 1
    lengths, least = [], 1
    for rate in dilations:
        lengths.append(max(rate, least) + draw.choice([0, 0, 1, draw.randint(0, 20)]))
        least = lengths[-1] + 1
    q, k, v = (torch.randn(B, N, H, D, generator=generator, dtype=torch.float64) for _ in "qkv")
    q[:, :: draw.choice([2, N])] = 0
    return [x.requires_grad_() for x in (q, k, v)], (tuple(lengths), tuple(dilations))


def gradients(out: Tensor, inputs: list[Tensor]) -> tuple[Tensor, ...]:
    weight = pattern(out.double()).to(out.dtype)
    return torch.autograd.grad((out * weight).sum(), inputs)


def check(
    found: Tensor,
    inputs: list[Tensor],
    schedule: Schedule,
    tolerance: float,
    exact: list[Tensor],
    expect: ModuleType = oracle,
) -> None:
    """Raises AssertionError if the output or a gradient is not the oracle's."""
    expected = expect.attend(*exact, list(zip(*schedule, strict=True)))
    assert_near(found, expected, tolerance, f"{schedule}: output")
    pairs = zip("qkv", gradients(found, inputs), gradients(expected, exact), strict=True)
    for name, one, other in pairs:
        assert_near(one, other, tolerance, f"{schedule}: gradient of {name}")


@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_is_theirs(backend) -> None:
    with attention_backend(backend):
        for seed in range(200):
            inputs, schedule = problem(seed)
            check(torchscale_attention(*inputs, *schedule), inputs, schedule, 1e-13, inputs)


def test_in_float32() -> None:
    for seed in range(100):
        exact, schedule = problem(seed)
        inputs = [x.detach().float().requires_grad_() for x in exact]
        exact = [x.detach().double().requires_grad_() for x in inputs]
        check(torchscale_attention(*inputs, *schedule), inputs, schedule, 5e-6, exact)


def test_meets_the_paper() -> None:
    """With as many heads as the dilation, and segments that fill the row, the heads' groups are the paper's and there
    is nothing to pad: the same output, and the same gradient but that of the scores."""
    inputs = [torch.randn(2, 24, 3, 4, dtype=torch.float64, requires_grad=True) for _ in "qkv"]
    schedule = (6, 12), (1, 3)
    ours, theirs = dilated_attention(*inputs, *schedule, causal=False), torchscale_attention(*inputs, *schedule)
    assert_near(theirs, ours, 1e-14, "output")
    q, k, v = ((a - b).abs().max() for a, b in zip(gradients(theirs, inputs), gradients(ours, inputs), strict=True))
    assert v < 1e-13
    assert min(q, k) > 1e-2


def test_heads_without_a_divisor() -> None:
    """Five heads at dilation 4 are groups of two, the last of one; the fourth offset has no head at all."""
    inputs = [torch.randn(1, 8, 5, 4, dtype=torch.float64) for _ in "qkv"]
    kept = torchscale_attention(*inputs, [8], [4])[0].ne(0).any(-1)
    assert torch.equal(kept, torch.tensor([[t % 4 == j // 2 for j in range(5)] for t in range(8)]))


def test_few_pieces() -> None:
    """At most the square root of the heads, rounded up: for 16 heads a handful a branch, however many segments."""
    for r in (1, 2, 4, 8, 16, 6, 12):
        for H in (1, 12, 16):
            pieces = torchscale._pieces(100 * 48, H, torchscale.Branch(48, r))
            assert len(pieces) ** 2 <= H


@pytest.mark.parametrize(
    ("shapes", "error", "named"),
    [
        ([(1, 0, 2, 4)] * 3, ContextError, "at least one position"),
        ([(1, 3, 2, 4), (1, 3, 1, 4), (1, 3, 1, 4)], ConfigError, r"must both be \(1, 3, 2, 4\)"),
    ],
)
def test_wrong_tensors(shapes, error, named) -> None:
    with pytest.raises(error, match=named):
        torchscale_attention(*(torch.zeros(shape) for shape in shapes), [4], [1])


def test_wrong_schedule() -> None:
    with pytest.raises(ConfigError, match="dilations"):
        torchscale_attention(*[torch.zeros(1, 3, 2, 4)] * 3, [4, 8], [1])


MUTANTS = {
    "the paper's offsets": ("head_step=group, skew=1", "head_step=1, skew=1"),
    "groups of spread heads": ("head=head, heads=min(group, H - head)", "head=offset, heads=min(group, H - head)"),
    "padding that is not zero": ("-w % r)).flatten", "-w % r), value=1.0).flatten"),
    "segments that are cropped": (
        "return out_BPHD[:, :N], lse_BPH[:, :N]",
        "return tuple(x.unflatten(1, (-1, branch.length + -branch.length % branch.dilation))"
        "[:, :, : branch.length].flatten(1, 2)[:, :N] for x in (out_BPHD, lse_BPH))",
    ),
    "segments beyond the row": ("branch._replace(length=min(branch.length, N))", "branch"),
    "absent branches with mass": ("ABSENT).softmax(0)", "0.0).softmax(0)"),
    "a log-sum-exp of 0 that counts": ("lse_KBNH.isneginf() | (lse_KBNH == 0)", "lse_KBNH.isneginf()"),
    "equal weights": ("ABSENT).softmax(0)", "ABSENT).mul(0).softmax(0)"),
}


def check_all(attend: Callable[..., Tensor], expect: ModuleType = oracle) -> None:
    for seed in range(60):
        inputs, schedule = problem(seed)
        check(attend(*inputs, *schedule), inputs, schedule, 1e-12, inputs, expect)


@pytest.mark.parametrize("name", MUTANTS)
def test_catches(name: str) -> None:
    """Sixty random problems tell every mutant."""
    mutant = mutated(torchscale, *MUTANTS[name])
    with pytest.raises(AssertionError, match="differs by"):
        check_all(mutant.torchscale_attention)


def test_catches_a_gradient_through_the_weights() -> None:
    with pytest.raises(AssertionError, match="gradient of q: differs by"):
        check_all(torchscale_attention, mutated(oracle, "lse.detach()", "lse"))
