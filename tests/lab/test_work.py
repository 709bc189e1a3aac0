"""The FLOPs of a trained cell are counted at the rates at which its model has chosen, and not at the nominal ones."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import everlong
from everlong.core.accounting import Chooses, at_mean, tell_costs_at
from everlong.core.errors import DataError
from everlong.core.part import Part
from everlong.core.span import by_part
from everlong.lab import TrainingBytes, make_plan
from everlong.lab.cell import read_status, run_cell
from everlong.resolution.chunkers import FixedPatches, SpaceLike
from everlong.resolution.hierarchy import Hierarchy
from everlong.resolution.routing import Routing
from everlong.train import read_records
from tests.laws.entries.resolution import SPACES, hierarchy, linear

SHARES = {"chunks/share, 1 of 2": 0.25, "chunks/share, 2 of 2": 0.5}


def nested(outer: float, inner: float) -> Part:
    """A hierarchy in another, with learned chunks of so many positions."""
    within = hierarchy(Routing.Config(width=8, bytes_per_chunk=inner), linear(8))
    return hierarchy(Routing.Config(width=8, bytes_per_chunk=outer), within).build()


def test_costs_are_those_of_a_model_whose_nominal_rate_is_the_measured_one() -> None:
    part = nested(6.0, 3.0)
    before = part.flops(64), part.state_bytes(64)
    tell_costs_at(part, SHARES)
    assert (part.flops(64), part.state_bytes(64)) == (nested(4.0, 2.0).flops(64), nested(4.0, 2.0).state_bytes(64))
    assert part.flops(64) > before[0]


def test_depth_is_counted_too() -> None:
    def model(capacity: float) -> nn.Module:
        return everlong.build("mod:nano", layers=2, capacity=capacity)

    told = model(0.125)
    tell_costs_at(told, {"depths/share": 0.5})
    assert told.flops(64) == model(0.5).flops(64)


def test_a_mean_lies_between_whole_numbers() -> None:
    assert at_mean(lambda T: 2 * T * T, 3) == 18
    assert at_mean(lambda T: 2 * T * T, 3.5) == 25


def test_a_missing_share_is_named() -> None:
    with pytest.raises(DataError, match="'chunks/share, 2 of 2'"):
        tell_costs_at(nested(6.0, 3.0), {"chunks/share, 1 of 2": 0.25})


def in_an_encoder() -> Part:
    """A hierarchy whose encoder is one, too, and its inner part, and its decoder."""
    small = {size: hierarchy(FixedPatches.Config(width=8, size=size), linear(8)) for size in (2, 3, 5)}
    chunker = FixedPatches.Config(width=8, size=7)
    return Hierarchy.Config(width=8, encoder=small[2], chunker=chunker, inner=small[3], decoder=small[5]).build()


def test_parts_stand_in_the_order_in_which_they_show_their_shares() -> None:
    part, span = in_an_encoder(), everlong.Span.plain_from(torch.zeros(1, 210, dtype=torch.int64))
    part(torch.randn(1, 210, 8), span)
    shares = {name: float(value) for name, value in by_part(span.observed) if "share" in name}
    tell_costs_at(part, shares)
    for module in part.modules():
        if isinstance(module, FixedPatches):
            assert module.share == pytest.approx(1 / module.size)


@pytest.mark.parametrize("preset", ["hnet2:nano", "spacebyte:nano", "mod:nano", "infini-mod:nano"])
def test_every_part_that_chooses_shows_its_share(preset: str) -> None:
    model = everlong.build(preset).train()
    shown = model(torch.randint(256, (2, 96))).observed
    parts = [module for module in model.modules() if isinstance(module, Chooses)]
    assert parts
    for name in {part.shown_share for part in parts}:
        assert len(shown[name]) == sum(part.shown_share == name for part in parts)


def test_a_cell_counts_what_its_model_chose(make: Any, tmp_path: Any) -> None:
    """Letters without a space: one chunk a window, where the nominal rate says 6 bytes a chunk."""
    study = make(budget=TrainingBytes(bytes=6 * 64))
    entry = make_plan(study, threads=1).entries[0]
    cell = entry.job(study, 0.01, 0).cell
    model = cell.model.replace(body=hierarchy(SPACES.replace(width=16), linear(16), linear))
    cell = cell.replace(model=model)
    run_cell(tmp_path, cell)
    records = [record for record in read_records(tmp_path / "metrics.jsonl") if record["kind"] == "train"]
    built = cell.model.build()
    assert all(record["chunks/share"] < 0.5 / SPACES.bytes_per_chunk for record in records)
    tell_costs_at(built, {"chunks/share": sum(float(r["chunks/share"]) for r in records) / len(records)})
    found = read_status(tmp_path)["result"]["flops"]
    assert found == pytest.approx(3 * built.flops(16) * 4 * 6, rel=0.01)
    assert found < 3 * cell.model.build().flops(16) * 4 * 6
    assert isinstance(next(m for m in built.modules() if isinstance(m, Chooses)), SpaceLike)
