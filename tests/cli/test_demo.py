"""`everlong demo`, in miniature."""

from __future__ import annotations

import json

import pytest

from everlong.cli import demo as module
from everlong.evaluate.round_trip import RoundTrip
from tests.evaluate.miniature import miniature_in


@pytest.fixture
def small(monkeypatch, tmp_path):
    """Makes the demo small."""
    (tmp_path / "sources").mkdir()
    monkeypatch.setattr(module, "DEMO", miniature_in(tmp_path / "sources"))


@pytest.mark.usefixtures("small")
def test_it_reports_goes_on_and_begins_anew(everlong, tmp_path):
    out = tmp_path / "runs" / "demo"
    first = everlong("demo", "--minutes", 0.002, "--out", out)
    assert first.code == 0
    assert str(out / "report.html") in first.out
    summary = json.loads((out / "summary.json").read_text())
    assert summary["roundtrip_ok"]
    assert f"{summary['heldout_bits_per_byte']:.3f}" in first.out
    assert f"{summary['xz_primed_bits_per_byte']:.3f}" in (out / "report.html").read_text()

    again = everlong("demo", "--minutes", 9.0, "--out", out)
    assert again.code == 0
    assert "--anew" in again.err
    assert again.out == first.out
    assert json.loads((out / "summary.json").read_text())["steps"] == summary["steps"]

    (out / "old").touch()
    assert everlong("demo", "--minutes", 0.002, "--out", out, "--anew").code == 0
    assert not (out / "old").exists()


@pytest.mark.usefixtures("small")
def test_a_round_trip_that_fails_is_reported_and_refused(everlong, tmp_path, monkeypatch):
    monkeypatch.setattr("everlong.evaluate.demo.round_trip", lambda *_: RoundTrip(3, 2, 4, restored=False))
    outcome = everlong("demo", "--minutes", 0.002, "--out", tmp_path / "demo")
    assert outcome.code == 2
    assert "roundtrip" in outcome.err
    assert json.loads((tmp_path / "demo" / "summary.json").read_text())["roundtrip_ok"] is False
    assert "FAILED" in (tmp_path / "demo" / "report.html").read_text()


@pytest.mark.usefixtures("small")
def test_what_is_no_run_is_not_removed(everlong, tmp_path):
    (tmp_path / "config.yaml").write_text("precious: true")
    assert everlong("demo", "--out", tmp_path, "--anew").code == 2
    assert (tmp_path / "config.yaml").read_text() == "precious: true"
