"""A report is made from results alone, is the same each time, and says what is missing and what was not matched."""

from __future__ import annotations

import json
import shutil
from itertools import combinations

import numpy as np
import pytest

from everlong.core.errors import DataError
from everlong.lab import write_report
from everlong.lab.cell import set_status
from everlong.lab.not_matched import not_matched
from everlong.lab.plan import CELLS, PLAN, make_plan
from everlong.lab.results import RESULTS, chosen_rate, difference, load
from tests.evaluate.test_report import Page


@pytest.fixture(scope="module")
def reported(finished, tmp_path_factory):
    """The study with its report; not to be changed."""
    folder = shutil.copytree(finished, tmp_path_factory.mktemp("reported") / "study")
    write_report(folder)
    return folder


def content(folder):
    files = [path for path in folder.rglob("*") if path.suffix in (".html", ".md", ".svg", ".json")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files if CELLS not in path.parts}


def test_it_is_the_same_each_time(copied, reported):
    write_report(copied)
    first = content(copied)
    assert content(reported) == first
    assert {"report.html", "report.md", "results.json", "figures/1-learning.svg"} <= set(first)


def test_committed_results_give_the_same_pages(reported, tmp_path):
    shutil.copy(reported / RESULTS, tmp_path)
    write_report(tmp_path)
    own, theirs = content(tmp_path), content(reported)
    assert {"report.html", "report.md"} <= set(own)
    assert all(theirs[name] == text for name, text in own.items())


def test_the_page_stands_alone_and_says_everything(reported):
    results = load(reported)
    text = (reported / "report.html").read_text()
    page = Page(text)
    assert "://" not in text
    assert page.tags.count("svg") == 3
    _, groups = next(results.matchings())
    for group in groups:
        assert group.interval is not None
        assert f"{group.interval.estimate:.4f}" in page.text
        assert f"{group.plan['cost']['state_bytes']:,}" in page.text
        for run in group.runs.values():
            assert run["model"] in page.text
    for one, other in combinations(groups, 2):
        assert f"{difference(one, other).estimate:+.4f}" in page.text
    for told in ("not matched", "learning rates", "interval", "bits per byte"):
        assert told in page.text
    markdown = (reported / "report.md").read_text()
    for line in ("| architecture |", "](figures/1-positions.svg)", "linear less window"):
        assert line in markdown


def test_intervals_come_from_the_reported_documents(reported):
    group = load(reported).groups[0]
    ratios = [sum(run["bits_per_byte"]["bits"]) / sum(run["bits_per_byte"]["bytes"]) for run in group.runs.values()]
    assert group.interval is not None
    assert group.interval.estimate == pytest.approx(np.mean(ratios))
    assert group.interval.low < group.interval.estimate < group.interval.high


def test_differences_are_paired(reported):
    """Noise that all models of a seed share does not widen a difference."""
    one, other = load(reported).groups[:2]
    before = difference(one, other)
    for seed, shift in (("0", 50.0), ("1", -30.0), ("2", 10.0)):
        for group in (one, other):
            told = group.runs[seed]["bits_per_byte"]
            told["bits"] = [bits + shift for bits in told["bits"]]
    after = difference(one, other)
    assert (after.low, after.high) == pytest.approx((before.low, before.high))


def test_an_unfinished_study_says_what_is_missing(plan, copied):
    jobs = [plan.entries[1].job(plan.study, rate, 1) for rate in plan.study.learning_rates]
    job = next(job for job in jobs if (copied / CELLS / job.name).exists())
    set_status(copied / CELLS / job.name, job.cell, "failed", error="by request")
    results = write_report(copied)
    assert results.missing == ({"cell": job.name, "state": "failed", "error": "by request"},)
    text = (copied / "report.html").read_text()
    assert "What is missing" in text
    assert "by request" in text
    assert len(results.groups[1].runs) == 2


def test_a_sweep_that_is_not_over_chooses_nothing(copied, plan):
    entry = plan.to_dict()["entries"][0]
    assert chosen_rate(entry, copied / CELLS) is not None
    shutil.rmtree(copied / CELLS / entry["sweep"]["0.003"])
    assert chosen_rate(entry, copied / CELLS) is None
    results = write_report(copied)
    assert results.groups[0].rate is None
    assert "not begun" in (copied / "report.md").read_text()


def test_the_smallest_and_the_largest_rate_are_edges(reported):
    group = load(reported).groups[0]
    assert group.edge
    inner = type(group)(group.plan, {**group.sweep, "0.1": {}, "0.0001": {}}, group.rate, group.runs)
    assert not inner.edge


def test_nothing_finished_is_refused(copied):
    shutil.rmtree(copied / CELLS)
    with pytest.raises(DataError, match="no reported cell"):
        write_report(copied)


@pytest.mark.parametrize("text", ["{", "[]", '{"format": 9}', '{"format": 1, "study": {}}'])
def test_damaged_results_are_told(tmp_path, text):
    (tmp_path / RESULTS).write_text(text)
    with pytest.raises(DataError, match="results"):
        write_report(tmp_path)


def test_missing_results_are_told(tmp_path):
    with pytest.raises(DataError, match="is not there"):
        write_report(tmp_path)


def test_cells_of_another_corpus_are_refused(copied):
    path = next(path for path in (copied / CELLS).glob("*seed1") if path.name.endswith("seed1")) / "status.json"
    status = json.loads(path.read_text())
    status["result"]["corpus"] = "another"
    path.write_text(json.dumps(status))
    with pytest.raises(DataError, match="another corpus"):
        write_report(copied)


def test_a_report_that_fails_leaves_the_old_one(reported, monkeypatch):
    before = content(reported)
    monkeypatch.setattr("everlong.lab.report.render", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_report(reported)
    assert content(reported) == before


def test_what_was_not_matched_is_told(reported):
    _, groups = next(load(reported).matchings())
    rows = {row[0]: row for row in not_matched("", groups).rows}
    states = [group.plan["cost"]["state_bytes"] for group in groups]
    assert rows["state bytes"][3] == f"{max(states) / min(states) - 1:.1%}"
    assert rows["state bytes"][4] == "no"
    assert rows["FLOPs per byte"][4].startswith("within 5.0%")
    assert rows["bytes to learn from"][4] == "equal"
    assert (reported / PLAN).is_file()


def test_one_learning_rate_is_taken_untried(copied, make):
    alone = make_plan(make(learning_rates=(0.01,)), threads=1)
    assert alone.sweep() == []
    entry = alone.to_dict()["entries"][0]
    assert chosen_rate(entry, copied / CELLS) == 0.01
    plain = json.loads((copied / PLAN).read_text())
    chosen = [str(chosen_rate(each, copied / CELLS)) for each in plain["entries"]]
    for each, rate in zip(plain["entries"], chosen, strict=True):
        each |= {"sweep": {}, "runs": {rate: each["runs"][rate]}}
    plain["study"]["learning_rates"] = [0.25]
    (copied / PLAN).write_text(json.dumps(plain))
    assert [group.rate for group in write_report(copied).groups] == chosen
    text = (copied / "report.md").read_text()
    assert "learnt at 0.25" in text
    assert "learning rates" not in text
