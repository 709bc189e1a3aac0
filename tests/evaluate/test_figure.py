"""Figures reach files and pages the same way every time, and ask for nothing from outside."""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ET

import pytest

from everlong.core.errors import ConfigError
from everlong.evaluate import figure
from everlong.evaluate.plots import comparison

VALUES = {"gzip": 2.0, "xz <9e>": 1.7, "own": 1.5}


def test_a_page_s_svg_is_well_formed_and_needs_nothing():
    svg = figure.inline_svg(comparison(VALUES, "own"), 'bars & "values"')
    root = ET.fromstring(svg)
    assert root.attrib["aria-label"] == 'bars & "values"'
    assert root.attrib["role"] == "img"
    assert "viewBox" in root.attrib
    assert "://" not in svg
    assert "font-family" not in svg
    assert "xz <9e>" in "".join(root.itertext())  # text stays text


def test_colours_of_a_page_are_its_own():
    svg = figure.inline_svg(comparison(VALUES, "own"), "bars")
    assert "var(--accent)" in svg
    assert not any(colour in svg for colour in figure.VARIABLES)


def test_ids_of_two_figures_never_meet():
    one, other = (ET.fromstring(figure.inline_svg(comparison(VALUES, "own"), name)) for name in ("one", "other"))
    ids = [{node.attrib["id"] for node in root.iter() if "id" in node.attrib} for root in (one, other)]
    assert not ids[0] & ids[1]
    for root, known in zip((one, other), ids, strict=True):
        used = {node.attrib["href"][1:] for node in root.iter() if "href" in node.attrib}
        assert used <= known


@pytest.mark.parametrize(("suffix", "magic"), [(".svg", b"<?xml"), (".png", b"\x89PNG"), (".PNG", b"\x89PNG")])
def test_files_are_the_same_every_time(tmp_path, suffix, magic):
    paths = [tmp_path / f"{name}{suffix}" for name in "ab"]
    for path in paths:
        figure.save(comparison(VALUES, "own"), path)
    one, other = (path.read_bytes() for path in paths)
    assert one == other
    assert one.startswith(magic)


def test_an_unknown_ending_is_refused_before_any_work(tmp_path):
    with pytest.raises(ConfigError, match=r"\.svg, \.png"):
        figure.require(tmp_path / "a.pdf")
    with pytest.raises(ConfigError, match=r"\.svg, \.png"):
        figure.save(comparison(VALUES, "own"), tmp_path / "a.pdf")
    assert not list(tmp_path.iterdir())


def test_the_missing_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ConfigError, match=r"everlong\[report\]"):
        figure.require()
    with pytest.raises(ConfigError, match=r"everlong\[report\]"):
        comparison(VALUES, "own")


def test_other_figures_keep_their_style():
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    figure.inline_svg(comparison(VALUES, "own"), "bars")
    assert dict(mpl.rcParams) == before
