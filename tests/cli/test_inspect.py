"""`everlong inspect`."""

from __future__ import annotations

from tests.cli.conftest import SPLIT, TRAINING


def test_writes_a_page(everlong, trained, sources, tmp_path) -> None:
    page = tmp_path / "page.html"
    outcome = everlong("inspect", trained, "--text", sources / "7.py", "--out", page, "--bytes", "40")
    assert outcome.code == 0
    assert "40 bytes at" in outcome.out
    assert page.read_text().startswith("<!doctype html>")
    again = everlong("inspect", trained, "--text", sources / "7.py", "--out", page)
    assert again.code == 2
    assert "exists already" in again.err
    assert everlong("inspect", trained, "--text", sources / "7.py", "--out", page, "--force").code == 0


def test_no_bytes(everlong, trained, sources, tmp_path) -> None:
    outcome = everlong("inspect", trained, "--text", sources / "7.py", "--out", tmp_path / "p.html", "--bytes", "0")
    assert outcome.code == 2
    assert "must be at least 1" in outcome.err


def test_gates_are_drawn_over_training(everlong, sources, tmp_path) -> None:
    """From what the run told of them; without that, the rest of the page is there."""
    run, page = tmp_path / "run", tmp_path / "page.html"
    model = ["infini:nano", "--override", "layers=2", "width=32", "heads=2", "segment=8"]
    assert everlong("train", *model, *TRAINING, *SPLIT, "--data", sources, "--out", run).code == 0
    inspection = ("inspect", run, "--text", sources / "7.py", "--out", page, "--bytes", "40", "--force")
    assert everlong(*inspection).code == 0
    assert "Gates over training" in page.read_text()
    (run / "metrics.jsonl").unlink()
    assert everlong(*inspection).code == 0
    assert "Gates over training" not in page.read_text()
    assert "infini/gate, head 2, 1 of 2" in page.read_text()
