"""Writing a compressive memory block by block is writing it position by position, and so are its gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from everlong.kernels import recall, writing
from everlong.testing.compare import assert_near, pattern
from tests.kernels.mutation import mutated

J, N, G, E, F = 4, 6, 3, 5, 4
BLOCKS = {
    "one block": 2**17,
    "a segment a block": N * G * E,
    "four positions a block": 4 * G * E,
    "a position a block": 1,
}


def inputs(*, strong: bool, dtype: torch.dtype = torch.float64) -> dict[str, Tensor | None]:
    """Keys, values, normalisers of which the first is 0, and strengths; none of them contiguous."""
    generator = torch.Generator().manual_seed(0)
    k, v = (torch.randn(J, N, G, size, generator=generator, dtype=torch.float64) for size in (2 * E, 2 * F))
    z, strength = (torch.rand(*size, generator=generator, dtype=torch.float64) for size in ((J, G, E), (J, N, G)))
    z[0] = 0
    given = {"k": k[..., ::2], "v": v[..., ::2], "z": z, "strength": strength}
    leaves = {name: x.to(dtype).requires_grad_() for name, x in given.items()}
    return leaves if strong else {**leaves, "strength": None}


def by_definition(given: dict[str, Tensor | None]) -> tuple[Tensor, Tensor]:
    """One position at a time."""
    k, v, z, strength = given["k"], given["v"], given["z"], given["strength"]
    assert k is not None
    assert v is not None
    assert z is not None
    total, taken = k.new_zeros(J, G, E, F + 1), k.new_zeros(J, G, E, E)
    for t in range(N):
        s = torch.nn.functional.elu(k[:, t]) + 1
        w = s if strength is None else s * strength[:, t, :, None]
        total = total + w[..., None] * torch.cat([v[:, t], v.new_ones(J, G, 1)], -1)[..., None, :]
        weight = (s * z).sum(-1)[..., None, None]
        taken = taken + torch.where(weight > 0, w[..., None] * s[..., None, :] / weight.where(weight > 0, 1.0), 0)
    return total, taken


def check(module: object, given: dict[str, Tensor | None], tolerance: float) -> None:
    """Raises AssertionError if a sum or a gradient is off."""
    found = (
        module.written(given["k"], given["v"], given["strength"]),  # type: ignore[attr-defined]
        module.corrections(given["k"], given["z"], given["strength"]),  # type: ignore[attr-defined]
    )
    leaves = {name: x for name, x in given.items() if x is not None}
    for which, one, other in zip(("written", "corrections"), found, by_definition(given), strict=True):
        assert_near(one, other, tolerance, which)
        gradients = [
            torch.autograd.grad((x * pattern(x)).sum(), list(leaves.values()), retain_graph=True, allow_unused=True)
            for x in (one, other)
        ]
        for name, mine, theirs in zip(leaves, *gradients, strict=True):
            assert (mine is None) == (theirs is None)
            if mine is not None:
                assert_near(mine, theirs, 10 * tolerance, f"gradient of {name} through {which}")


@pytest.mark.parametrize("strong", [False, True])
@pytest.mark.parametrize("case", BLOCKS)
def test_blocks_are_the_definition(case: str, strong: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recall, "BLOCK", BLOCKS[case])
    check(writing, inputs(strong=strong), 1e-12)


def test_whole_is_the_definition(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there are no blocks: on an accelerator."""
    monkeypatch.setattr(writing, "_in_blocks", lambda k: False)
    check(writing, inputs(strong=True), 1e-12)


def test_single_precision() -> None:
    check(writing, inputs(strong=True, dtype=torch.float32), 1e-5)


@pytest.mark.parametrize("strong", [False, True])
def test_the_operators_keep_their_contracts(strong: bool) -> None:
    given = inputs(strong=strong)
    torch.library.opcheck(writing._written, (given["k"], given["v"], given["strength"]))
    torch.library.opcheck(writing._corrections, (given["k"], given["z"], given["strength"]))


MUTANTS = {
    "the last positions are all": ("total[j] += _written_by", "total[j] = _written_by"),
    "the last corrections are all": ("total[j] += _corrections_by", "total[j] = _corrections_by"),
    "the last divisors are all": ("gz[j] += ", "gz[j] = "),
    "normalisers are not summed": ("w_JGNE.sum(-2)[..., None]", "0 * w_JGNE.sum(-2)[..., None]"),
    "strength forgotten": ("by if strength_JNG is None else by * _column(strength_JNG)", "by"),
    "nothing is divided by": ("by = reciprocal(s_JGNE @ z_JGE[..., None])", "by = torch.ones_like(s_JGNE[..., :1])"),
    "values without strength": ("_weighted(s_JGNE, own) @ values", "s_JGNE @ values"),
    "sums without gradient": (".add_(sums[..., None, :])", ""),
    "divisor without gradient": ("(s_JGNE.mT @ gweight_JGN1)[..., 0]", "0"),
    "divisor does not reach keys": ("gweight_JGN1, z[j][..., None, :])", "gweight_JGN1, 0 * z[j][..., None, :])"),
    "slope of sigma": ("s_JGNE.clamp(max=1)", "s_JGNE"),
    "weights without strength": ("_weighted(gw_JGNE, strength_JNG)", "gw_JGNE"),
}  # fmt: skip


@pytest.mark.parametrize("name", MUTANTS)
def test_catches(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recall, "BLOCK", BLOCKS["four positions a block"])
    mutant = mutated(writing, *MUTANTS[name])
    with pytest.raises(AssertionError):
        check(mutant, inputs(strong=True), 1e-12)
