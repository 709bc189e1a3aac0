"""A study of several sizes is told as laws, with what they were fitted to; one of too few sizes is not."""

from __future__ import annotations

import copy
import json
import shutil

import numpy as np
import pytest

from everlong.evaluate.report import Table
from everlong.lab import write_report
from everlong.lab.laws import QUANTITIES, fitted, scaling
from everlong.lab.markdown import Drawing
from everlong.lab.results import RESULTS, collect, load
from tests.evaluate.test_report import Page
from tests.lab.test_report import content

E, A, ALPHA = 1.5, 80.0, 0.3
FLOPS = np.geomspace(1e6, 1e8, 5)


@pytest.fixture(scope="module")
def plain(finished, tmp_path_factory):
    """Results of five sizes of each architecture, whose runs follow a law of FLOPs but for some noise."""
    folder = shutil.copytree(finished, tmp_path_factory.mktemp("one") / "study")
    collect(folder)
    found = json.loads((folder / RESULTS).read_text())
    random, groups, cells = np.random.default_rng(0), [], {}
    for group in found["groups"]:
        for i, flops in enumerate(FLOPS):
            sized = copy.deepcopy(group)
            label = f"equal FLOPs per byte ({i})"
            sized["plan"] |= {"matching": label, "sizes": {**group["plan"]["sizes"], "width": 8 * (i + 1)}}
            sized["plan"]["cost"] |= {"non_embedding": int(100 * flops)}
            for seed, name in group["runs"].items():
                cell = copy.deepcopy(found["cells"][name]) | {"flops": flops}
                told = cell["bits_per_byte"]
                law = (E + A / flops**ALPHA) * np.exp(0.002 * random.standard_normal())
                told["bits"] = [law * size for size in told["bytes"]]
                sized["runs"][seed] = f"{name}-{i}"
                cells[f"{name}-{i}"] = cell
            groups.append(sized)
    return found | {"groups": groups, "cells": cells}


def results(plain, folder):
    (folder / RESULTS).write_text(json.dumps(plain))
    return load(folder)


def test_the_law_of_the_runs_is_found(plain, tmp_path):
    groups = [group for group in results(plain, tmp_path).groups if group.name == "linear"]
    scaled = fitted(groups, "training FLOPs")
    assert scaled is not None
    assert scaled.law.points == len(scaled.x_N) == 15
    assert sorted(set(scaled.x_N)) == FLOPS.tolist()
    exponent, left = scaled.law.exponents["training FLOPs"], scaled.law.irreducible
    assert exponent.low < ALPHA < exponent.high
    assert left.low < E < left.high
    assert exponent.high - exponent.low < 0.2
    assert scaled.loss_N == pytest.approx(E + A / scaled.x_N**ALPHA, rel=0.01)


def test_the_report_has_every_law_with_its_figure(plain, tmp_path):
    found = results(plain, tmp_path)
    write_report(tmp_path)
    first = content(tmp_path)
    page, text = Page(first["report.html"].decode()), first["report.md"].decode()
    for against in ("training FLOPs", "parameters"):
        assert f"Scaling, sizes of equal FLOPs per byte: loss against {against}" in page.text
        for name in ("linear", "window"):
            scaled = fitted([group for group in found.groups if group.name == name], against)
            assert scaled is not None
            value = scaled.law.exponents[against]
            assert f"{value.estimate:.3g} ({value.low:.3g} to {value.high:.3g})" in page.text
    assert "loss against training bytes" not in page.text
    assert "](figures/scaling-sizes-of-equal-flops-per-byte-loss-against-parameters.svg)" in text
    assert sum(name.startswith("figures/scaling") for name in first) == 2


def shrunk(plain, keep):
    plain = copy.deepcopy(plain)
    return plain | {"groups": [group for group in plain["groups"] if keep(group["plan"]["sizes"]["width"])]}


@pytest.mark.parametrize(("sizes", "pieces"), [(3, 0), (4, 4)])
def test_too_few_sizes_are_no_law(plain, tmp_path, sizes, pieces):
    few = [group for group in plain["groups"] if group["plan"]["sizes"]["width"] <= 8 * sizes]
    assert len(list(scaling(results(plain | {"groups": few}, tmp_path)))) == pieces


def test_equal_sizes_are_one(plain, tmp_path):
    """Two targets that lead to one size are no two sizes, and do not count their runs twice."""
    doubled = copy.deepcopy(plain)
    for group in doubled["groups"]:
        group["plan"]["sizes"]["width"] = min(24, group["plan"]["sizes"]["width"])
    groups = results(doubled, tmp_path).groups
    assert fitted([group for group in groups if group.name == "linear"], "training FLOPs") is None


def test_what_hardly_changes_is_not_scaled(plain, tmp_path):
    steady = copy.deepcopy(plain)
    for cell in steady["cells"].values():
        cell["flops"] = 1e7 + cell["flops"] / 100
    assert fitted(results(steady, tmp_path).groups[:5], "training FLOPs") is None
    assert fitted(results(steady, tmp_path).groups[:5], "parameters") is not None


def test_where_parameters_and_bytes_change_there_is_no_law(plain, tmp_path):
    both = copy.deepcopy(plain)
    for cell in both["cells"].values():
        cell["bytes_seen"] = int(1e12 / cell["flops"])
    groups = results(both, tmp_path).groups[:5]
    assert all(fitted(groups, against) is None for against in QUANTITIES)


def test_bytes_are_a_law_of_one_size(plain, tmp_path):
    longer = copy.deepcopy(plain)
    for group in longer["groups"]:
        group["plan"]["cost"]["non_embedding"] = 1000
    for cell in longer["cells"].values():
        cell["bytes_seen"] = int(cell["flops"] / 6)
    found = fitted(results(longer, tmp_path).groups[:5], "training bytes")
    assert found is not None
    assert found.law.exponents["training bytes"].estimate == pytest.approx(ALPHA, abs=0.05)


@pytest.mark.slow
def test_losses_without_a_law_are_told_with_their_doubt(plain, tmp_path):
    flat, random = copy.deepcopy(plain), np.random.default_rng(1)
    for cell in flat["cells"].values():
        told = cell["bits_per_byte"]
        told["bits"] = [2.0 * np.exp(0.01 * random.standard_normal()) * size for size in told["bytes"]]
    flat["groups"] = flat["groups"][:5]
    table, drawing, *_ = scaling(results(flat, tmp_path))
    assert isinstance(table, Table)
    for row in table.rows:
        low, high = (float(number) for number in row[5].split("(")[1][:-1].split(" to "))
        assert high - low > 1
    assert isinstance(drawing, Drawing)


def slots(plain):
    """The five sizes of each architecture, as contenders of one matching that stand along a quantity."""
    along = copy.deepcopy(plain)
    for group, flops in zip(along["groups"], np.tile(FLOPS, 2), strict=True):
        group["plan"] |= {"matching": "equal FLOPs per byte", "preset": group["plan"]["architecture"] + ":nano"}
        group["plan"]["along"] = ["memory slots", flops]
    return along


def test_contenders_along_a_quantity_are_a_law(plain, tmp_path):
    pieces = list(scaling(results(slots(plain), tmp_path)))
    (table,) = (piece for piece in pieces if isinstance(piece, Table) and "memory slots" in piece.title)
    assert [row[0] for row in table.rows] == ["linear:nano", "window:nano"]
    for row in table.rows:
        assert row[1] == "15"
        assert float(row[5].split(" ")[0]) == pytest.approx(ALPHA, abs=0.05)


def test_there_is_no_law_along_what_learnt_from_more_bytes(plain, tmp_path):
    longer = slots(plain)
    for cell in longer["cells"].values():
        cell["bytes_seen"] = int(cell["flops"])
    titles = [piece.title for piece in scaling(results(longer, tmp_path)) if isinstance(piece, Table)]
    assert not any("memory slots" in title for title in titles)


def test_three_places_are_no_law(plain, tmp_path):
    few = slots(plain)
    few["groups"] = [group for group in few["groups"] if group["plan"]["along"][1] < 2e7]
    titles = [piece.title for piece in scaling(results(few, tmp_path)) if isinstance(piece, Table)]
    assert not any("memory slots" in title for title in titles)
