"""A study says what it wants, and what it cannot have is refused before anything is trained."""

from __future__ import annotations

import pytest

from everlong.core.config import config_from_dict
from everlong.core.errors import ConfigError
from everlong.lab import Architecture, EqualFlops, EqualParameters, TrainingBytes, TrainingFlops, load_study, make_plan


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"seeds": (0, 1)}, "study.seeds"),
        ({"seeds": (0, 1, 1)}, "study.seeds"),
        ({"sweep_seed": 2}, "study.sweep_seed"),
        ({"metrics": ("bits_per_byte", "by_positon")}, "study.metrics"),
        ({"metrics": ("by_position",)}, "study.metrics"),
        ({"learning_rates": ()}, "study.learning_rates"),
        ({"matching": (EqualFlops(), EqualFlops(tolerance=0.1))}, "study.matching"),
        ({"architectures": ()}, "study.architectures"),
        ({"name": "../up"}, "study.name"),
        ({"at_once": 0}, "study.at_once"),
        ({"more_budgets": (TrainingBytes(bytes=6 * 64),)}, "study.more_budgets"),
        ({"architectures": (Architecture(name="a", preset="linear:nano", window=24),)}, "architecture.window"),
    ],
)
def test_what_cannot_be_is_refused(make, changes, field):
    with pytest.raises(ConfigError) as caught:
        make(**changes)
    assert caught.value.field == field


def test_an_unknown_metric_names_the_known(make):
    with pytest.raises(ConfigError, match="did you mean 'by_position'"):
        make(metrics=("bits_per_byte", "by_positon"))


def test_an_architecture_is_looked_up_at_once():
    with pytest.raises(ConfigError, match="did you mean 'linear'"):
        Architecture(name="a", preset="linaer:nano")
    with pytest.raises(ConfigError, match="did you mean 'width'"):
        Architecture(name="a", preset="linear:nano", overrides={"widht": 3})


def test_it_round_trips_as_plain_values(study):
    assert config_from_dict(study.to_dict()) == study


def test_an_architecture_can_have_a_window_of_its_own(make):
    """It learns from as many bytes in an update, and its FLOPs are those of its own window."""
    size = {"layers": 1, "width": 16, "heads": 1}
    pair = tuple(Architecture(name=f"at.{w}", preset="transformer:nano", overrides=size, window=w) for w in (16, 64))
    plan = make_plan(make(architectures=pair, matching=(EqualParameters(),)), threads=1)
    one, other = (entry.job(plan.study, 0.01, 0).cell.training for entry in plan.entries)
    assert (one.window, one.batch, other.window, other.batch) == (16, 4, 64, 1)
    assert plan.entries[0].solved == plan.entries[1].solved
    assert plan.entries[0].cost.flops_per_byte < plan.entries[1].cost.flops_per_byte


def test_equal_bytes_are_equal_steps_and_equal_flops_are_not(make):
    by_bytes = make_plan(make(), threads=1)
    assert {entry.steps for entry in by_bytes.entries} == {6}
    flops = 6 * 64 * by_bytes.entries[0].cost.flops_per_byte
    overrides = {"layers": 1, "width": 16, "heads": 1}
    pair = (
        Architecture(name="linear", preset="linear:nano", overrides=overrides),
        Architecture(name="other", preset="linear:nano", overrides={**overrides, "hidden": 16}),
    )
    study = make(budget=TrainingFlops(flops=flops), architectures=pair, matching=(EqualParameters(tolerance=0.9),))
    first, second = make_plan(study, threads=1).entries
    assert first.steps == 6
    assert second.steps > 6
    assert second.steps * 64 * second.cost.flops_per_byte == pytest.approx(flops, rel=0.5 / second.steps)


def test_every_budget_has_cells_of_its_own(make):
    one, more = make(), make(more_budgets=(TrainingBytes(bytes=12 * 64), TrainingFlops(flops=1e9)))
    first, plan = make_plan(one, threads=1), make_plan(more, threads=1)
    assert plan.cells == 3 * first.cells
    assert {job.name for job in first.sweep()} < {job.name for job in plan.sweep()}  # so that a study may grow
    labels = list(dict.fromkeys(entry.label for entry in plan.entries))
    assert labels == [f"equal FLOPs per byte, {budget}" for budget in ("384 bytes", "768 bytes", "1e+09 FLOPs")]
    assert [entry.steps for entry in plan.entries if entry.label == labels[1]] == [12, 12]
    for job in plan.sweep():
        told = [f"steps{job.cell.training.steps}"] if job.cell.training.steps != 6 else []
        assert [part for part in job.name.split("-") if part.startswith("steps")] == told
    assert config_from_dict(more.to_dict()) == more


def test_a_budget_below_an_update_is_refused(make):
    with pytest.raises(ConfigError, match="below one update"):
        make_plan(make(budget=TrainingBytes(bytes=3)), threads=1)


@pytest.mark.parametrize(
    ("text", "told"),
    [("def study(): return 3", "must return a Study"), ("1 / 0", "ZeroDivisionError"), ("", "AttributeError")],
)
def test_a_file_that_defines_none_is_refused(tmp_path, text, told):
    (tmp_path / "it.py").write_text(text)
    with pytest.raises(ConfigError, match=told):
        load_study(tmp_path / "it.py")


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="must be a Python file"):
        load_study(tmp_path / "it.py")


@pytest.mark.parametrize("name", ["baselines", "scaling", "smoke"])
def test_the_studies_at_hand_can_be_loaded(name):
    from pathlib import Path

    assert load_study(Path(__file__).parents[2] / "studies" / f"{name}.py").name == name
