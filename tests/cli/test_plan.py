"""`everlong plan`: the planner's numbers on a terminal, and what it refuses."""

from __future__ import annotations

import pytest

PAPER = ["--segments", 2048, 4096, 8192, 16384, 32768, "--dilations", 1, 2, 4, 6, 12]


def test_plan(everlong):
    outcome = everlong("plan", "32K", *PAPER, "--devices", 8)
    assert outcome.code == 0
    lines = outcome.out.splitlines()
    assert len([line for line in lines if line.strip()[:1].isdigit()]) == 5
    for told in ("7.68 times", "11,606", "dense 32,768", "50.0%", "3   at most"):
        assert told in outcome.out


def test_plan_of_a_billion_tokens(everlong):
    outcome = everlong("plan", "1G", "--devices", 16384)
    assert outcome.code == 0
    assert "1,073,741,824" in outcome.out
    assert "40,960" in outcome.out


def test_a_short_length_needs_one_segment(everlong):
    outcome = everlong("plan", "100")
    assert outcome.code == 0
    assert "1   at most" in outcome.out


def test_allocation(everlong):
    budget = ["--total", "26.04e9", "--active", "3.8e9", "--experts", 72, "--used", 6, "--memory-layers", 2]
    outcome = everlong("plan", "--allocate", 1, 0.743, *budget)
    assert outcome.code == 0
    assert [line.split() for line in outcome.out.splitlines()[1:]] == [
        ["1.000", "72", "22.2", "G", "0", "0"],
        ["0.742", "55", "16.5", "G", "5.73", "G", "2,237,689"],
    ]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--allocate", 2, "--total", 9, "--active", 3, "--experts", 8, "--used", 2], "must be a share"),
        (["3x"], "must be a whole number of tokens"),
        (["0"], "must be a whole number of tokens"),
        (["1K", "--dilations", 1, 2], "need --segments"),
        (["1K", "--segments", 8, 4, "--dilations", 1, 2], "must grow"),
        (["1K", "--devices", 3], "must divide length = 1024"),
        (["1K", "--ratio", 1], "must be at least 2"),
    ],
)
def test_errors(everlong, arguments, told):
    outcome = everlong("plan", *arguments)
    assert outcome.code == 2
    assert told in outcome.err
