"""Splitting inactive parameters between experts and memory, against the numbers of the paper."""

from __future__ import annotations

from typing import Any

import pytest

import everlong
from everlong.core.accounting import parameter_count
from everlong.core.errors import ConfigError
from everlong.lab.allocation import allocate
from studies import engram

PAPER: dict[str, Any] = {
    "total": 26.04e9,
    "active": 3.8e9,
    "experts": 72,
    "used": 6,
    "memory_layers": 2,
    "memory_width": 1280,
}
"""Engram-27B without embedding and head (table 5)."""


def test_the_papers_27b() -> None:
    found = allocate(0.743, **PAPER)
    assert found.experts == 55
    assert found.memory_parameters == pytest.approx(5.7e9, rel=0.01)
    assert found.rows == pytest.approx(2_262_400, rel=0.015)


@pytest.mark.parametrize(("experts", "expected"), [(106, 46), (99, 43)])
def test_the_papers_sweep_at_four_tenths(experts: int, expected: int) -> None:
    assert allocate(0.4, **{**PAPER, "experts": experts}).experts == expected


@pytest.mark.parametrize("rho", [0.0, 0.1, 0.35, 0.5, 0.77, 1.0])
def test_every_split_has_the_same_parameters(rho: float) -> None:
    found = allocate(rho, **PAPER)
    assert found.expert_parameters + found.memory_parameters == round(26.04e9 - 3.8e9)
    assert abs(found.rho - rho) <= 0.5 / 66
    assert (found.experts == 72) == (found.memory_parameters == 0) == (rho == 1.0)


@pytest.mark.parametrize(
    ("name", "value"),
    [("total", 1e9), ("active", 0.0), ("used", 0), ("used", 72), ("memory_layers", 0), ("memory_width", 0)],
)
def test_refuses_what_cannot_be_split(name: str, value: float) -> None:
    with pytest.raises(ConfigError) as caught:
        allocate(0.5, **{**PAPER, name: value})
    assert caught.value.field == name


@pytest.mark.parametrize("rho", [-0.1, 1.1])
def test_refuses_what_is_no_share(rho: float) -> None:
    with pytest.raises(ConfigError, match="rho"):
        allocate(rho, **PAPER)


def test_the_study_splits_fairly() -> None:
    """Its sparse models have as many parameters, and all of its models take as many FLOPs, as its text says."""
    built = {one.name: everlong.build(one.preset, **one.overrides) for one in engram.study().architectures}
    sparse = [parameter_count(model) for name, model in built.items() if name != "dense"]
    flops = [model.flops(256) for model in built.values()]
    assert max(sparse) / min(sparse) <= 1.01
    assert max(flops) / built["dense"].flops(256) <= 1.03
    assert min(flops) == built["dense"].flops(256)
