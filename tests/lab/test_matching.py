"""Sizes agree as asked, stay like the reference, and what cannot be met says how close it comes."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import everlong
from everlong.core.accounting import parameter_count
from everlong.core.errors import ConfigError
from everlong.data import ByteCodec
from everlong.lab import EqualFlops, EqualParameters, EqualState, EqualTime
from everlong.lab.cost import Scales
from everlong.lab.matching import own_sizes, solve
from everlong.train import DataConfig, Trainer

WINDOW = 128
REFERENCE = {"layers": 4, "width": 64, "heads": 2}
LIKE = own_sizes("transformer:nano", REFERENCE)


@pytest.fixture(scope="module")
def scales(sources) -> Scales:
    training = Trainer.Config(steps=1, window=WINDOW, batch=2)
    data = DataConfig(sources=(str(sources),), validation_fraction=0.4)
    return Scales(training, data, codec=ByteCodec(), state_length=1000, threads=1)


def solved(matching, preset, scales, target=None, **overrides: Any):
    if target is None:
        target = matching.value(everlong.config("transformer:nano", **REFERENCE), scales)
    return solve(preset, overrides, matching, target=target, like=LIKE, scales=scales)


@pytest.mark.parametrize("family", ["transformer", "window", "sparse", "linear"])
def test_flops_agree_by_an_own_count(family, scales):
    found = solved(EqualFlops(), f"{family}:nano", scales)
    reference, model = everlong.build("transformer:nano", **REFERENCE), found.config.build()
    assert abs(model.flops(WINDOW) / reference.flops(WINDOW) - 1) <= 0.02
    assert found.value == pytest.approx(3 * model.flops(WINDOW) / WINDOW)
    assert found.config == everlong.config(f"{family}:nano", **found.sizes)


@pytest.mark.parametrize("family", ["window", "sparse", "linear"])
def test_parameters_agree_by_an_own_count(family, scales):
    model = solved(EqualParameters(), f"{family}:nano", scales).config.build()
    reference = everlong.build("transformer:nano", **REFERENCE)
    own, theirs = parameter_count(model.body), parameter_count(reference.body)
    assert abs(own / theirs - 1) <= 0.02


def test_shapes_that_a_preset_cannot_have_are_passed_over(scales):
    """An inside narrower than the outside is no H-Net; wider ones are searched on."""
    found = solved(EqualFlops(), "spacebyte:nano", scales, outer_width=64)
    assert found.sizes["width"] >= 64
    assert abs(found.mismatch) <= 0.02
    with pytest.raises(ConfigError, match="no size of spacebyte:nano can be built"):
        solved(EqualFlops(), "spacebyte:nano", scales, outer_width=64, width=32, heads=1)


def test_states_agree_by_what_is_held(scales):
    from everlong.core.state import state_bytes

    found = solved(EqualState(tolerance=0.05), "linear:nano", scales, target=32_000.0)
    state = found.config.build()(torch.zeros(1, 1000, dtype=torch.long)).state
    assert abs(state_bytes(state) / 32_000 - 1) <= 0.05


def test_the_reference_finds_itself(scales):
    for matching in (EqualFlops(), EqualParameters(), EqualState()):
        found = solved(matching, "transformer:nano", scales)
        assert found.sizes == LIKE
        assert found.mismatch == 0


def test_what_is_fixed_stays(scales):
    found = solved(EqualFlops(), "linear:nano", scales, layers=3, heads=1)
    assert found.sizes["layers"] == 3
    assert found.sizes["heads"] == 1
    assert abs(found.mismatch) <= 0.02


def test_it_takes_the_size_most_like_the_reference(scales):
    """Of all sizes near it that meet the target, found by trying them all."""
    from everlong.lab.matching import _total

    matching = EqualFlops()
    found = solved(matching, "linear:nano", scales)
    best = _total(found, LIKE)
    for layers in (4, 5):
        for width in (64, 72):
            for hidden in range(160, 257, 8):
                sizes = {"layers": layers, "width": width, "heads": width // 8, "hidden": hidden}
                for heads in (1, 2, width // 16):
                    if width % heads or width // heads % 2:
                        continue
                    other = everlong.config("linear:nano", **{**sizes, "heads": heads})
                    value = matching.value(other, scales)
                    candidate = type(found)({**sizes, "heads": heads}, other, value, found.target)
                    if abs(candidate.mismatch) <= matching.tolerance and width // heads in (16, 32, 64):
                        assert _total(candidate, LIKE) >= best - 1e-9


def test_what_no_size_meets_names_the_best(scales):
    with pytest.raises(ConfigError) as caught:
        solved(EqualFlops(), "linear:nano", scales, target=1e12, width=64)
    assert "the best of linear:nano is" in caught.value.remedy
    assert "layers=8" in caught.value.remedy
    assert caught.value.value == 1e12


def test_a_tolerance_is_enforced(scales):
    with pytest.raises(ConfigError, match="cannot be met within"):
        solved(EqualFlops(tolerance=1e-6), "linear:nano", scales, layers=3, width=64, heads=2)


@pytest.mark.parametrize("fields", [{"tolerance": 0.0}, {"target": -1.0}])
def test_what_makes_no_sense_is_refused(fields):
    with pytest.raises(ConfigError, match="matching"):
        EqualFlops(**fields)


def test_parameters_are_counted_by_both_conventions(scales):
    config = everlong.config("linear:nano")
    cost, model = scales.cost(config), config.build()
    assert cost.parameters == parameter_count(model)
    assert cost.parameters - cost.non_embedding == 2 * 259 * 96


def test_a_tied_table_is_left_out_once(scales):
    config = everlong.config("megabyte:nano")
    assert scales.cost(config).non_embedding == parameter_count(config.build().body)


def test_time_is_measured_once_and_kept(scales, tmp_path, monkeypatch):
    first = Scales(
        scales.training, scales.data, codec=ByteCodec(), state_length=1, threads=1, timings=tmp_path / "t.json"
    )
    config = everlong.config("linear:nano", layers=1, width=16, heads=1)
    seconds = EqualTime().value(config, first)
    assert seconds > 0
    monkeypatch.setattr(Scales, "_time", lambda *_: pytest.fail("was measured twice"))
    again = Scales(
        scales.training, scales.data, codec=ByteCodec(), state_length=1, threads=1, timings=tmp_path / "t.json"
    )
    assert EqualTime().value(config, again) == seconds


def test_sizes_at_equal_time_follow_the_clock(scales, monkeypatch):
    monkeypatch.setattr(Scales, "_time", lambda _, config: 1e-9 * parameter_count(config.build()))
    found = solved(EqualTime(), "linear:nano", scales)
    assert abs(found.mismatch) <= 0.1
