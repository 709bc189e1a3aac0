"""Suites and speed are measured of every trained cell, told in the report, and refused where they cannot be asked."""

from __future__ import annotations

import json

import pytest

from everlong.core.config import config_from_dict
from everlong.core.errors import ConfigError, ContextError
from everlong.data import ByteCodec
from everlong.evaluate.report import Table
from everlong.evaluate.suites import SUITES, measure_suite
from everlong.lab import Questions, make_plan, write_report
from everlong.lab.answers import answers
from everlong.lab.cell import FINISHED, INTERRUPTED, STATUS, check_cell, read_status, set_status
from everlong.lab.metrics import METRICS
from everlong.lab.plan import CELLS
from everlong.lab.results import Group, collect, load
from everlong.train import load_run
from tests.evaluate.test_report import Page
from tests.lab.conftest import InProcess
from tests.lab.test_report import content

QUESTIONS = Questions(lengths=(128, 256), examples=4)
ASKING = {"metrics": ("bits_per_byte", "induction", "recall", "speed"), "questions": QUESTIONS}


@pytest.fixture(scope="module")
def asked(make, tmp_path_factory):
    """The folder of a finished study that asks."""
    folder = tmp_path_factory.mktemp("asked")
    InProcess(make_plan(make(**ASKING, learning_rates=(0.003,)), threads=1), folder)
    return folder


def test_every_suite_is_a_metric():
    assert set(SUITES) < set(METRICS)


def test_a_cell_holds_what_its_model_scores(asked):
    path = next(path for path in (asked / CELLS).iterdir() if path.name.startswith("window"))
    status, model = read_status(path), load_run(path).model
    assert status is not None
    found = status["result"]
    for name in ("induction", "recall"):
        for i, length in enumerate(QUESTIONS.lengths):
            score = measure_suite(model, ByteCodec(), SUITES[name], name=name, length=length, count=4)
            for field in ("exact", "contained", "taught"):
                assert found[name][field][i] == getattr(score, field)
            assert found[name]["state_bytes"][i] == model.state_bytes(length)
        assert found[name]["chance"] == SUITES[name].chance
    assert found["speed"]["lengths"] == [128, 256]
    assert min(found["speed"]["decoding"]) > 0


def test_speed_is_measured_seed_by_seed_when_all_is_trained(make, tmp_path, monkeypatch):
    done = []

    def timed(model, questions, advance):
        states = [read_status(path)["state"] for path in (tmp_path / CELLS).iterdir()]
        assert states == [FINISHED] * plan.cells
        advance(sum(questions.lengths))
        return {"lengths": list(questions.lengths)}

    monkeypatch.setattr("everlong.lab.speeds.timed", timed)
    monkeypatch.setattr(
        "everlong.lab.grid.Watch.timed", lambda _, job, total, read: done.append((job.name, read / total))
    )
    plan = make_plan(make(metrics=("bits_per_byte", "speed"), questions=QUESTIONS), threads=1)
    InProcess(plan, tmp_path)
    assert [name.partition("-")[0] for name, _ in done] == ["linear", "window"] * 3
    assert all("seed1000" not in name for name, _ in done)  # what only chose the learning rate
    assert sum(share for _, share in done) == pytest.approx(1)

    first = done.pop(0)[0]
    status = read_status(tmp_path / CELLS / first)
    del status["result"]["speed"]
    (tmp_path / CELLS / first / STATUS).write_text(json.dumps(status))
    done.clear()
    InProcess(plan, tmp_path)
    assert [name for name, _ in done] == [first]


def test_the_report_tells_them_and_is_the_same_each_time(asked):
    write_report(asked)
    first = content(asked)
    page = Page(first["report.html"].decode())
    for told in ("suites", "induction against the size of the state", "latency against context"):
        assert told in page.text
    assert {f"figures/1-{slug}.svg" for slug in ("state-induction", "state-recall", "latency")} < set(first)
    write_report(asked)
    assert content(asked) == first


def test_the_table_and_the_figures_hold_means_over_the_seeds(monkeypatch):
    def run(exact, decoding):
        suite = {"lengths": [64, 128], "state_bytes": [1000, 2000], "exact": exact, "taught": [0.5, 1.0], "chance": 0.1}
        return {"recall": suite, "speed": {"lengths": [64, 128], "decoding": decoding}}

    drawn = []
    monkeypatch.setattr("everlong.lab.answers.plots.lines", lambda series, *_: drawn.append(series))
    runs = {"0": run([0.25, 0.5], [100.0, 50.0]), "1": run([0.75, 0.5], [200.0, 50.0])}
    table, *_ = answers("", [Group({"architecture": "linear"}, {}, None, runs)], "")
    assert isinstance(table, Table)
    assert [row[:7] for row in table.rows] == [
        ("recall", "64", "linear", "1,000", "50.0%", "25.0% to 75.0%", "50.0%"),
        ("recall", "128", "linear", "2,000", "50.0%", "50.0% to 50.0%", "100.0%"),
    ]
    assert drawn[0] == {"linear": [(1000.0, 0.5), (2000.0, 0.5)]}
    assert drawn[1] == {"linear": [(64.0, pytest.approx(7.5)), (128.0, pytest.approx(20.0))]}


def test_a_study_that_asks_nothing_has_none_of_it(copied):
    collect(copied)
    groups = load(copied).groups
    assert all(group.runs for group in groups)
    assert list(answers("", groups, "")) == []


def test_time_for_questions_is_planned(make):
    asking, silent = (make_plan(make(**changes), threads=1) for changes in (ASKING, {}))
    assert QUESTIONS.bytes(ASKING["metrics"]) == (2 * 4 + 1) * 384
    update = asking.entries[0].seconds
    longer = asking.sweep()[0].seconds - 2 * 800 * update / 192 - 6 * update - 5
    assert longer == pytest.approx((2 * 4 + 1) * 384 * update / 192)
    assert silent.sweep()[0].cell.questions is None


@pytest.mark.parametrize("changes", [{"lengths": ()}, {"lengths": (8, 8)}, {"lengths": (0,)}, {"examples": 0}])
def test_what_cannot_be_asked_is_refused(changes):
    with pytest.raises(ConfigError, match="questions"):
        Questions(**{"lengths": (64,), **changes})


@pytest.mark.parametrize("changes", [{"metrics": ("bits_per_byte", "recall")}, {"questions": QUESTIONS}])
def test_suites_and_lengths_come_together(make, changes):
    with pytest.raises(ConfigError) as caught:
        make(**changes)
    assert caught.value.field == "study.questions"


def test_a_length_that_is_too_short_names_the_smallest(make):
    with pytest.raises(ContextError, match="the smallest length is"):
        make(metrics=("bits_per_byte", "passkey"), questions=Questions(lengths=(4096, 128)))


def test_a_length_beyond_a_model_is_refused_before_training(make):
    study = make(**ASKING)
    limited = [a.replace(overrides={**a.overrides, "context_limit": 270}) for a in study.architectures]
    with pytest.raises(ContextError, match="context_limit"):
        make_plan(study.replace(architectures=tuple(limited)), threads=1)
    without_speed = {"metrics": ("bits_per_byte", "recall"), "architectures": tuple(limited)}
    assert make_plan(study.replace(**without_speed), threads=1).cells == 10


def test_a_cell_round_trips_and_older_ones_are_known(make, tmp_path):
    asking, silent = (make_plan(make(**changes), threads=1).sweep()[0].cell for changes in (ASKING, {}))
    assert config_from_dict(asking.to_dict()) == asking
    set_status(tmp_path, silent, INTERRUPTED)
    status = json.loads((tmp_path / STATUS).read_text())
    del status["cell"]["questions"]  # which cells did not have at first
    (tmp_path / STATUS).write_text(json.dumps(status))
    assert check_cell(tmp_path, silent) == status
    with pytest.raises(ConfigError):
        check_cell(tmp_path, silent.replace(questions=QUESTIONS))
