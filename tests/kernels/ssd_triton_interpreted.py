"""The kernels of `ssd_triton.py` in Triton's interpreter, on a CPU, against the plain form in float64. Run by
`test_ssd_triton.py` in a process of its own, since Triton must be told to interpret before it is imported.

Legend: B batch rows, T positions, H heads, P head size, G groups, N state size, J = H P / G.
"""

from __future__ import annotations

import importlib.util
import os
import tempfile
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor

from everlong.core.errors import ContextError
from everlong.kernels.ssd import decaying_sum
from everlong.testing.compare import assert_near, pattern

Q = 16  # positions of a chunk, in these tests
assert os.environ["TRITON_INTERPRET"] == "1"


def problem(T: int, G: int, rate: float, packed: bool) -> tuple[list[Tensor], Tensor | None]:
    """x, w, a, B, C and a state, which ask for gradients, and documents; some of them of one position."""
    B, H, P, N = 1, 4, 3, 5
    draw = torch.Generator().manual_seed(T)
    shapes = [(B, T, H, P), (B, T, H), (B, T, H), (B, T, G, N), (B, T, G, N), (B, G, N, H // G * P)]
    inputs = [torch.randn(shape, generator=draw, dtype=torch.float64) for shape in shapes]
    inputs[2] = -rate * inputs[2].abs()
    starts = torch.rand(B, T, generator=draw) < 0.2
    return [z.requires_grad_() for z in inputs], starts.cumsum(1) if packed else None


def check_agrees(kernels: ModuleType, T: int, G: int, rate: float, packed: bool) -> None:
    """Raises AssertionError if outputs or state are off by 1e-12, or a gradient by 1e-11."""
    inputs, documents = problem(T, G, rate, packed)
    found = kernels.ssd_triton(*inputs, documents)[:2]
    expected = decaying_sum(*inputs[:5], state=inputs[5], documents=documents)
    for name, one, other in zip(("output", "state"), found, expected, strict=True):
        assert_near(one, other, 1e-12, name)
    one, other = (
        torch.autograd.grad((y * pattern(y)).sum() + (s * pattern(s)).sum(), inputs) for y, s in (found, expected)
    )
    for name, a, b in zip(("x", "w", "a", "B", "C", "state"), one, other, strict=True):
        assert_near(a, b, 1e-11, f"gradient of {name}")


def check_step(kernels: ModuleType) -> None:
    """A single position, with groups."""
    inputs, _ = problem(1, 2, 1.0, packed=False)
    x, w, a, B, C, state = (z.detach() for z in inputs)
    y, after = kernels.step_triton((x * w[..., None])[:, 0], a[:, 0].exp(), B[:, 0], C[:, 0], state)
    expected, s = decaying_sum(x, w, a, B, C, state=state)
    assert_near(y[:, None], expected, 1e-12, "output")
    assert_near(after, s, 1e-12, "state")


def check_operator(kernels: ModuleType) -> None:
    """What a compiler is told of the operator's outputs, their shapes among them, is so."""
    inputs, documents = problem(Q + 1, 2, 1.0, packed=True)
    detached = [z.detach() for z in inputs]
    torch.library.opcheck(kernels.ssd_triton, (*detached, documents), test_utils=("test_schema", "test_faketensor"))


def check_backwards(kernels: ModuleType) -> None:
    """Documents that go backwards are refused here, too."""
    inputs, _ = problem(3, 1, 1.0, packed=False)
    with pytest.raises(ContextError, match="documents = 'falling numbers'"):
        kernels.ssd_triton(*inputs, torch.tensor([[0, 1, 0]]))


CASES = [(2, 1, 1.0, False), (Q, 4, 1.0, True), (2 * Q + 5, 2, 1.0, False), (2 * Q + 5, 2, 100.0, True)]
MUTANTS = {
    "the diagonal is left out": ("(t >= u) & (own == other)", "(t > u) & (own == other)"),
    "documents meet within a chunk": ("(t >= u) & (own == other)", "(t >= u)"),
    "pairs decay once too often": ("tl.where(t > u, a_Q", "tl.where(t >= u, a_Q"),
    "a chunk is one too long": ("for number in range(chunks)", "for number in range(chunks - 1)"),
    "heads take another group": (
        "rows, g = chunk * Q, h // (H // G)\n    b_QN",
        "rows, g = chunk * Q, h % G\n    b_QN",
    ),
    "an old document is kept": ("* (own_BCQ == last_BC[..., None])[..., None]", ""),
    "a new document hears the state": ("* (own_BCQ == before_BC[..., None])[..., None]", ""),
    "the state outlives its document": ("* (before_BC == last_BC)[..., None]", ""),
    "the end of a chunk has no gradient": ("+= (gs * ends)", "+= 0 * (gs * ends)"),
    "the backward pass runs forwards": ("(self.count - 1, -1) if backwards", "(0, 1) if backwards"),
}


def mutants(folder: Path) -> dict[str, ModuleType]:
    """The module with one place of it changed, each in a file: Triton reads the source of its kernels."""
    source = Path(load("right", None).__file__ or "").read_text(encoding="utf-8")
    found = {}
    for number, (name, (old, new)) in enumerate(MUTANTS.items()):
        assert old in source, name
        path = folder / f"mutant{number}.py"
        path.write_text(source.replace(old, new).replace('"everlong::', f'"mutant{number}::'), encoding="utf-8")
        found[name] = load(name, path)
    return found


def load(name: str, path: Path | None) -> ModuleType:
    """A module with short chunks: the kernels themselves, or what a file makes of them."""
    if path is None:
        kernels = importlib.import_module("everlong.kernels.ssd_triton")
    else:
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None, name  # its name ends in .py
        assert spec.loader is not None, name
        kernels = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(kernels)
    kernels.CHUNK = Q  # type: ignore[attr-defined]
    return kernels


def caught(kernels: ModuleType) -> bool:
    """Whether a packed call of three chunks shows that a mutant is one."""
    try:
        check_agrees(kernels, *CASES[3][:2], 1.0, True)
    except AssertionError as error:
        return "differs" in str(error)
    return False


def main() -> None:
    kernels = load("right", None)
    for case in CASES:
        check_agrees(kernels, *case)
    check_step(kernels)
    check_backwards(kernels)
    check_operator(kernels)
    with tempfile.TemporaryDirectory() as folder:
        missed = [name for name, mutant in mutants(Path(folder)).items() if not caught(mutant)]
    assert not missed, missed


if __name__ == "__main__":
    main()
