"""`everlong train --tables` and `everlong evaluate --memory`: n-gram memory on disk, switched off, and looked into."""

from __future__ import annotations

import json

import pytest

SMALL = ["engram:nano", "--override", "layers=1", "width=16", "heads=2", "memory_layers=[0]", "rows=300"]
TRAINING = ["--steps", 3, "--window", 32, "--batch", 4, "--evaluate-every", "None", "--validation-fraction", 0.3]


@pytest.fixture(scope="module")
def run(tmp_path_factory, sources, home):
    from everlong.cli import main

    folder = tmp_path_factory.mktemp("memory")
    tables = folder / "tables"
    arguments = ["train", *SMALL, *TRAINING, "--data", sources, "--out", folder / "run", "--tables", tables]
    assert main([str(argument) for argument in arguments]) == 0
    assert list(tables.iterdir()) == []
    return folder / "run"


def test_looks_into_the_memory(everlong, run, tmp_path):
    outcome = everlong("evaluate", run, "--memory", "--json", tmp_path / "found.json")
    assert outcome.code == 0
    found = json.loads((tmp_path / "found.json").read_text())["memory"]
    assert f"without its n-gram memory: {found['without']:.3f}" in outcome.out
    assert [one["order"] for one in found["occupancy"]] == [2, 3, 4, 5, 6]
    assert 0 < found["occupancy"][0]["hits"] < 1
    assert len([line for line in outcome.out.splitlines() if line.startswith("body.blocks.0.inner")]) == 5


def test_a_model_without_memory_is_refused(everlong, trained):
    outcome = everlong("evaluate", trained, "--memory")
    assert outcome.code == 2
    assert "has no n-gram memory" in outcome.err


def test_suites_are_not_documents(everlong, run):
    outcome = everlong("evaluate", run, "--memory", "--suite", "passkey")
    assert outcome.code == 2
    assert "leave out --suite" in outcome.err


def test_rows_may_learn_by_adam(everlong, sources, tmp_path):
    from everlong.train.run import read_run

    chosen = ["--table-optimizer", "adam", "--optimizer.tables.multiplier", "7"]
    outcome = everlong("train", *SMALL, *TRAINING, "--data", sources, "--out", tmp_path / "run", *chosen)
    assert outcome.code == 0
    rows = read_run(tmp_path / "run")[0].training.optimizer.tables
    assert (rows.kind, rows.multiplier) == ("train.row_adam.RowAdam", 7.0)
