"""Which parameters are trained how, and what things cost."""

from __future__ import annotations

import torch
from torch import nn

import everlong
from everlong.core.accounting import Hint, element_bytes, linear_flops, parameter_count, parameter_hints


class Inner(nn.Module):
    """Hints for itself, for a parameter, and for a child."""

    hints = {"": Hint(learning_rate=2.0), "gate": Hint(learning_rate=3.0), "child": Hint(decay=False)}  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.plain = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2, 2))
        self.vector, self.scalar = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(()))
        self.child = nn.Linear(2, 2)


class Outer(nn.Module):
    hints = {"inner": Hint(learning_rate=5.0, matrix=False)}  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.other = Inner(), nn.Linear(2, 2, bias=False)
        self.tied = nn.Linear(2, 2, bias=False)
        self.tied.weight = self.other.weight


def test_hints_multiply_along_the_path() -> None:
    hints = {name: hint for name, _, hint in parameter_hints(Outer())}
    assert hints == {
        "inner.gate": Hint(learning_rate=30.0, matrix=False),
        "inner.plain": Hint(learning_rate=10.0, matrix=False),
        "inner.vector": Hint(learning_rate=10.0, decay=False, matrix=False),
        "inner.scalar": Hint(learning_rate=10.0, decay=False, matrix=False),
        "inner.child.weight": Hint(learning_rate=10.0, decay=False, matrix=False),
        "inner.child.bias": Hint(learning_rate=10.0, decay=False, matrix=False),
        "other.weight": Hint(),
    }


def test_every_parameter_once() -> None:
    outer = Outer()
    listed = [parameter for _, parameter, _ in parameter_hints(outer)]
    assert len(listed) == len(set(listed)) == len(list(outer.parameters()))
    assert sum(parameter.numel() for parameter in listed) == parameter_count(outer)


def test_language_model_groups() -> None:
    """Embedding and head are no matrices for Muon; norms and the embedding do not decay; the groups are all."""
    model = everlong.build("transformer:nano")
    groups = {name: hint for name, _, hint in parameter_hints(model)}
    assert groups["embedding.weight"] == Hint(decay=False, matrix=False)
    assert groups["head.weight"] == Hint(matrix=False)
    assert groups["body.norm.weight"] == Hint(decay=False, matrix=False)
    assert groups["body.blocks.0.mixer.q.weight"] == Hint()
    assert set(groups) == {name for name, _ in model.named_parameters()}


def test_costs() -> None:
    layer = nn.Linear(3, 5, bias=False)
    assert linear_flops(layer, nn.Linear(2, 2), T=7) == 2 * 7 * (15 + 4)
    assert element_bytes(layer) == 4
    assert element_bytes(layer.double()) == 8
    assert parameter_count(nn.ModuleList([layer, layer])) == 15
