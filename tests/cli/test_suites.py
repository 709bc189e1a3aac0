"""`everlong evaluate RUN --suite`: table, plot and JSON; bad input is refused before anything is run."""

from __future__ import annotations

import json

import pytest

from everlong.evaluate.suites import SUITES, measure_suite, speed
from everlong.train import load_run


def test_suites_are_shown_written_and_drawn(everlong, trained, tmp_path):
    options = ["--lengths", 300, 400, "--examples", 3, "--seed", 5]
    outputs = ["--json", tmp_path / "s.json", "--plot", tmp_path / "s.svg"]
    outcome = everlong("evaluate", trained, "--suite", "passkey,recall", *options, *outputs)
    assert outcome.code == 0
    run, written = load_run(trained), json.loads((tmp_path / "s.json").read_text())
    found = {(score["suite"], score["length"]): score for score in written["suites"]}
    assert list(found) == [("passkey", 300), ("passkey", 400), ("recall", 300), ("recall", 400)]
    expected = measure_suite(run.model, run.codec, SUITES["recall"], name="recall", length=400, count=3, seed=5)
    assert found["recall", 400]["taught"] == expected.taught
    assert [o["generated"] for o in found["recall", 400]["outcomes"]] == [o.generated for o in expected.outcomes]
    assert [o["depth"] for o in found["passkey", 300]["outcomes"]] == [0.0, 0.5, 1.0]
    assert "passkey" in outcome.out
    assert f"{SUITES['recall'].chance:.2g}" in outcome.out
    assert (tmp_path / "s.svg").read_bytes().startswith(b"<?xml")


def test_what_is_measured_on_documents_and_by_context(everlong, trained, tmp_path):
    for i in range(5):
        (tmp_path / f"{i}.py").write_text(f"def f{i}(x):\n    return x + {i}\n" * 20)
    data = ["--data", *(tmp_path / f"{i}.py" for i in range(5))]
    options = ["--suite", "prompt-length,robustness,speed", "--lengths", 20, 100, "--examples", 4]
    outcome = everlong("evaluate", trained, *options, *data, "--json", tmp_path / "s.json")
    assert outcome.code == 0
    written = json.loads((tmp_path / "s.json").read_text())
    assert [point["length"] for point in written["prompt-length"]] == [20, 100]
    assert [point["documents"] for point in written["prompt-length"]] == [4, 4]
    assert len(written["robustness"]["perturbed"]) == 5
    states = [one.state_bytes for one in speed(load_run(trained).model, (20, 100))]
    assert [one["state_bytes"] for one in written["speed"]] == states
    for told in ("prompt tokens", "RandomCase", "decoded tokens/s"):
        assert told in outcome.out


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--suite", "paskey"], "did you mean 'passkey'"),
        (["--suite", "passkey,sped"], "did you mean 'speed'"),
        (["--suite", ","], "separated by commas"),
        (["--suite", "passkey", "--lengths", "0"], "at least 1"),
        (["--suite", "passkey", "--examples", "0"], "at least 1"),
        (["--suite", "passkey", "--seed", "-1"], "0 or more"),
        (["--suite", "induction,passkey", "--lengths", "100"], "the smallest length is"),
        (["--suite", "passkey", "--primed"], "leave out one"),
        (["--suite", "passkey", "--context", "5"], "--lengths"),
        (["--suite", "speed", "--plot", "s.svg"], "generated suites only"),
        (["--suite", "prompt-length", "--lengths", "100000"], "the longest document"),
    ],
)
def test_what_cannot_be_measured(options, told, everlong, trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    outcome = everlong("evaluate", trained, *options)
    assert outcome.code == 2
    assert told in outcome.err
    assert not list(tmp_path.iterdir())
