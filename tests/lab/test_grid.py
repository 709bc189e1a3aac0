"""A grid goes on where it was left, tries again what failed, and shows every architecture the same bytes."""

from __future__ import annotations

import json
import os
import signal
import threading

import pytest

from everlong.core.errors import ConfigError, DataError
from everlong.lab import TrainingBytes, make_plan
from everlong.lab.cell import FAILED, FINISHED, INTERRUPTED, RUNNING, STATUS, read_status, run_cell, set_status
from everlong.lab.grid import Runner, Watch, run_grid
from everlong.lab.plan import CELLS, Job
from everlong.lab.worker import Telling
from everlong.train.learner import Learner
from tests.lab.conftest import InProcess, Silent


def states(folder):
    return {path.name: read_status(path)["state"] for path in (folder / CELLS).iterdir()}


def test_every_cell_is_a_folder_with_its_record(finished, plan):
    assert len(states(finished)) == plan.cells == 2 * (2 + 3)
    assert set(states(finished).values()) == {FINISHED}
    for path in (finished / CELLS).iterdir():
        assert {"config.yaml", "metrics.jsonl", "status.json"} <= {file.name for file in path.iterdir()}


def test_too_few_documents_are_found_before_anything_is_trained(plan, tmp_path, monkeypatch):
    monkeypatch.setattr("everlong.lab.metrics.half_of", lambda digest: "selection")
    with pytest.raises(DataError, match="hold out more"):
        run_grid(plan, tmp_path, Silent(), threads=1)
    assert not (tmp_path / CELLS).exists()


def test_what_is_finished_is_left_alone(finished, plan):
    assert InProcess(plan, finished).ran == []


def test_fields_that_are_newer_than_a_cell_have_their_defaults(copied, plan):
    for path in (copied / CELLS).iterdir():
        status = read_status(path)
        del status["cell"]["tokenizer"], status["cell"]["training"]["clip"]
        (path / STATUS).write_text(json.dumps(status))
    assert InProcess(plan, copied).ran == []


def test_seeds_are_trained_at_the_rate_that_the_selection_half_prefers(finished, plan):
    for entry in plan.entries:
        loss = {
            rate: read_status(finished / CELLS / entry.name(rate, 1000))["result"]["selection"]
            for rate in plan.study.learning_rates
        }
        best = min(loss, key=loss.__getitem__)
        trained = [name for name in states(finished) if name.startswith(entry.architecture.name)]
        assert {name for name in trained if "seed1000" not in name} == {entry.name(best, s) for s in (0, 1, 2)}


def test_equal_seeds_see_the_same_bytes_in_the_same_order(plan, tmp_path, monkeypatch):
    seen, learn = {}, Learner.learn

    def noted(self, batch, factor):
        seen[name].append(batch.ids_BT.tolist())
        return learn(self, batch, factor)

    monkeypatch.setattr(Learner, "learn", noted)
    monkeypatch.setattr("everlong.train.session.matmul_rate", lambda *_: 1e9)
    for entry in plan.entries:
        for seed in (0, 1):
            name = entry.architecture.name, seed
            seen[name] = []
            job = entry.job(plan.study, 0.01, seed)
            run_cell(tmp_path / job.name, job.cell)
    assert len(seen["linear", 0]) == 6
    assert seen["linear", 0] == seen["window", 0]
    assert seen["linear", 1] == seen["window", 1]
    assert seen["linear", 0] != seen["linear", 1]


def test_flops_are_counted_as_the_law_says(finished, plan):
    entry = plan.entries[0]
    result = read_status(finished / CELLS / entry.name(0.003, 1000))["result"]
    assert result["flops"] == pytest.approx(entry.cost.flops_per_byte * 6 * 16 * 4)
    assert result["steps"] == 6


@pytest.mark.parametrize("state", [FAILED, INTERRUPTED, RUNNING])
def test_what_is_not_finished_is_tried_again(plan, copied, state):
    job = plan.sweep()[1]
    set_status(copied / CELLS / job.name, job.cell, state, error="by request")
    assert InProcess(plan, copied).ran == [job.name]
    assert states(copied)[job.name] == FINISHED


def test_a_cell_that_fails_stops_no_other(plan, tmp_path):
    good = plan.sweep()[0]
    absent = good.cell.replace(data=good.cell.data.replace(sources=(str(tmp_path / "absent"),)))
    watch = Silent()
    Runner(tmp_path, watch, 1).run([Job("bad", absent, 1.0), good], 1)
    assert watch.heard == [("bad", FAILED), (good.name, FINISHED)]
    assert "absent" in read_status(tmp_path / "bad")["error"]
    assert "absent" in (tmp_path / "bad" / "log.txt").read_text()


def test_a_cell_that_raises_says_so_in_its_status(plan, tmp_path, monkeypatch):
    job = plan.sweep()[0]
    monkeypatch.setattr("everlong.lab.cell.score", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run_cell(tmp_path / job.name, job.cell)
    status = read_status(tmp_path / job.name)
    assert status["state"] == FAILED
    assert "ZeroDivisionError" in status["error"]


def test_a_changed_study_is_refused_and_the_field_named(finished, make):
    changed = make_plan(make(budget=TrainingBytes(bytes=7 * 64)), threads=1)
    with pytest.raises(ConfigError) as caught:
        run_grid(changed, finished, Watch(), threads=1)
    assert caught.value.field == "training.steps"


def test_more_seeds_may_be_added(make, copied):
    grown = make_plan(make(seeds=(0, 1, 2, 3)), threads=1)
    ran = InProcess(grown, copied).ran
    assert len(ran) == 2
    assert all(name.endswith("seed3") for name in ran)


def test_a_damaged_status_is_told(plan, tmp_path):
    job = plan.sweep()[0]
    folder = tmp_path / CELLS / job.name
    folder.mkdir(parents=True)
    (folder / "status.json").write_text('{"state": "fini')
    with pytest.raises(DataError, match="is damaged"):
        run_grid(plan, tmp_path, Watch(), threads=1)


def test_two_matchings_share_the_cells_of_equal_sizes(make):
    from everlong.lab import EqualFlops, EqualParameters

    plan = make_plan(make(matching=(EqualFlops(tolerance=0.05), EqualParameters(tolerance=0.05))), threads=1)
    assert plan.entries[0].solved.sizes == plan.entries[2].solved.sizes
    assert plan.cells < 2 * 2 * (2 + 3)


class Killer(Silent):
    """Ends a cell's process in some way once it has made enough updates; notes where each process began."""

    def __init__(self, end, after: int) -> None:
        super().__init__()
        self.end, self.after, self.began = end, after, []

    def advanced(self, job: Job, step: int) -> None:
        if not self.began:
            self.began.append(step)
        if step >= self.after:
            self.end()


@pytest.fixture
def long(make):
    """One cell of many updates, a checkpoint every 20."""
    study = make(budget=TrainingBytes(bytes=40_000 * 64))
    study = study.replace(training=study.training.replace(checkpoint_every=20, evaluate_every=None))
    return make_plan(study, threads=1).sweep()[0]


def test_a_killed_cell_loses_at_most_a_checkpoint_interval(long, tmp_path):
    watch = Killer(lambda: [os.kill(p.pid, signal.SIGKILL) for p in runner.running], after=1)
    runner = Runner(tmp_path, watch, 1)
    runner.run([long], 1)
    status = read_status(tmp_path / long.name)
    assert status["state"] == FAILED
    assert "-9" in status["error"]
    saved = [int(path.name[5:]) for path in (tmp_path / long.name / "checkpoints").glob("step-*")]
    told = len((tmp_path / long.name / "metrics.jsonl").read_text().splitlines())
    assert told - max(saved, default=0) <= 21  # and the interval's last record

    again = Killer(lambda: runner.stop(), after=max(saved, default=0) + 1)
    runner = Runner(tmp_path, again, 1)
    runner.run([long], 1)
    assert again.began == [max(saved, default=0)]
    assert read_status(tmp_path / long.name)["state"] == INTERRUPTED
    assert again.heard == [(long.name, INTERRUPTED)]


def test_stopping_begins_no_more_cells(plan, tmp_path):
    runner, before = Runner(tmp_path, Watch(), 1), threading.active_count()
    runner.stop()
    runner.run(plan.sweep(), 2)
    assert all(read_status(path) is None for path in tmp_path.iterdir())
    assert threading.active_count() <= before


def test_a_worker_whose_listener_is_gone_can_still_save(monkeypatch):
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w", closefd=False) as gone:
        with pytest.raises(BrokenPipeError):
            print("nobody listens", file=gone, flush=True)
        monkeypatch.setattr("sys.stdout", gone)
        Telling().on_start(0, 10)  # raises nothing
        monkeypatch.undo()
        os.dup2(os.open(os.devnull, os.O_WRONLY), writing)  # so that closing has somewhere to write to
    os.close(writing)


@pytest.mark.slow
def test_cells_in_processes_of_their_own_give_the_same(plan, finished, tmp_path):
    watch = Silent()
    run_grid(plan, tmp_path, watch, threads=1)
    assert sorted(watch.heard) == [(name, FINISHED) for name in sorted(states(finished))]
    for path in (tmp_path / CELLS).iterdir():
        own, theirs = (read_status(home / CELLS / path.name)["result"]["model"] for home in (tmp_path, finished))
        assert own == theirs
