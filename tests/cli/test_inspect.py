"""`everlong inspect`."""

from __future__ import annotations


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
