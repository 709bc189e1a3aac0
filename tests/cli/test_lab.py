"""`everlong compare` and `everlong report`, in miniature."""

from __future__ import annotations

import pytest

from everlong.lab.cell import run_cell
from everlong.lab.grid import Runner

STUDY = """
from everlong.lab import Architecture, EqualFlops, HeldOut, Study, TrainingBytes
from everlong.train import DataConfig, Trainer

def study():
    return Study(
        name="tiny",
        architectures=(
            Architecture(name="linear", preset="linear:nano", overrides={{"layers": 1, "width": 16, "heads": 1}}),
        ),
        matching=(EqualFlops(),),
        budget=TrainingBytes(bytes=3 * 64),
        learning_rates=(0.01,),
        seeds=(0, 1, 2),
        training=Trainer.Config(steps=1, window=16, batch=4, precision="float32", evaluate_every=1),
        data=DataConfig(sources=({sources!r},), validation_fraction=0.6),
        held_out=HeldOut(bytes=500),
    )
"""


@pytest.fixture
def study(tmp_path, sources, monkeypatch):
    """The file of a study, whose cells run in this process."""

    def run(runner, jobs, at_once):
        for job in jobs:
            run_cell(runner.cells / job.name, job.cell)

    monkeypatch.setattr(Runner, "run", run)
    (tmp_path / "tiny.py").write_text(STUDY.format(sources=str(sources)))
    return tmp_path / "tiny.py"


def test_a_plan_is_shown_and_nothing_is_trained(everlong, study, tmp_path):
    outcome = everlong("compare", study, "--plan", "--out", tmp_path / "out")
    assert outcome.code == 0
    assert "equal FLOPs per byte within 2.0%; 3 cells, 1 at a time" in outcome.out
    assert "width=16" in outcome.out
    assert not (tmp_path / "out").exists()


def test_a_study_is_run_and_reported(everlong, study, tmp_path):
    outcome = everlong("compare", study, "--out", tmp_path / "out")
    assert outcome.code == 0
    first = (tmp_path / "out" / "report.html").read_text()
    again = everlong("report", tmp_path / "out")
    assert again.code == 0
    assert str(tmp_path / "out" / "report.html") in again.out
    assert (tmp_path / "out" / "report.html").read_text() == first


def test_what_is_no_study_is_told(everlong, tmp_path):
    assert everlong("compare", tmp_path / "absent.py").code == 2
    outcome = everlong("report", tmp_path)
    assert outcome.code == 2
    assert "is not there" in outcome.err


def test_a_cell_that_fails_is_told(everlong, study, tmp_path, monkeypatch):
    from everlong.lab import grid

    run = Runner.run

    def failing(runner, jobs, at_once):
        bad = [job for job in jobs if job.name.endswith("seed1")]
        run(runner, [job for job in jobs if job not in bad], at_once)
        for job in bad:
            grid.set_status(runner.cells / job.name, job.cell, "failed", error="out of memory")

    monkeypatch.setattr(Runner, "run", failing)
    outcome = everlong("compare", study, "--out", tmp_path / "out")
    assert outcome.code == 2
    assert "out of memory" in outcome.err
    assert (tmp_path / "out" / "report.html").is_file()
