"""The evidence page: it is what the kept results say, and it lacks no claim."""

from __future__ import annotations

from pathlib import Path

import pytest

from studies.evidence.claim import Verdict, together
from studies.evidence.kept import ROOT, Kept, corpus
from studies.evidence.page import SYSTEMS, page

CONFIRMED, PARTLY, NOT_HERE, REFUTED, NOT_MEASURED = Verdict

HEADLINES = {
    "LongNet": {"Linear cost", "Length", "Order of Table 2", "Gain from longer prompts", "Power law"},
    "Infini-Transformer": {
        "114 times smaller memory",
        "Constant state",
        "A passkey in a million tokens after short training",
    },
    "Mixture-of-Depths": {"Equal loss at half the cost of a step", "A predictor tells in a stream who is routed"},
    "MEGABYTE": {"A million bytes", "More parameters, yet faster generation", "Better bits per byte at equal compute"},
    "Mamba and hybrids": {
        "Three to ten layers of Mamba to one of attention are best",
        "Constant state",
        "Better on raw bytes at less compute",
        "Character tasks",
    },
    "H-Net": {"Learned chunks are better than fixed ones", "Robustness", "Efficiency on DNA"},
    "Engram": {
        "U-shaped allocation between experts and memory",
        "Gains at equal parameters and FLOPs",
        "Loss falls with the logarithm of the slots",
        "Offload costs under three per cent",
        "Gain in long contexts",
    },
    "Everlong": {"Better than what it is made of"},
}
"""What the papers say in their headlines, and what is claimed here: each must have an entry."""


def test_no_claim_lacks_an_entry() -> None:
    assert {system.name: {claim.title for claim in system.claims} for system in SYSTEMS} == HEADLINES


def test_the_page_is_what_the_results_say() -> None:
    written = (ROOT / "docs" / "evidence.md").read_text(encoding="utf-8")
    assert page(Kept()) == written, "write it anew: python -m studies.evidence"


def test_without_results_nothing_is_claimed(tmp_path: Path) -> None:
    """But for what is counted, and each tells the command that would measure it."""
    for system in SYSTEMS:
        for claim in system.claims:
            for measure in claim.measures:
                counted = claim.title == "114 times smaller memory"
                assert (measure.judge(Kept(tmp_path)) is None) != counted
                assert all(command.startswith(("everlong ", "python -m ")) for command in measure.commands)
    text = page(Kept(tmp_path))
    assert (
        text.count(f"**{str(NOT_MEASURED).capitalize()}**")
        == sum(len(c.measures) for s in SYSTEMS for c in s.claims) - 1
    )


def test_commands_name_what_is_there() -> None:
    for system in SYSTEMS:
        for command in (c for claim in system.claims for measure in claim.measures for c in measure.commands):
            words = command.split()
            if words[1] == "compare":
                assert (ROOT / words[2]).is_file(), command
            if words[0] == "python":
                module = (words[2] if words[2] != "benchmarks" else f"benchmarks.{words[3]}").replace(".", "/")
                assert (ROOT / f"{module}.py").is_file(), command


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        ([CONFIRMED, CONFIRMED], CONFIRMED),
        ([CONFIRMED, NOT_MEASURED], PARTLY),
        ([CONFIRMED, REFUTED], PARTLY),
        ([PARTLY, NOT_HERE], PARTLY),
        ([REFUTED, NOT_HERE], REFUTED),
        ([NOT_HERE, NOT_MEASURED], NOT_HERE),
        ([NOT_MEASURED, NOT_MEASURED], NOT_MEASURED),
    ],
)
def test_together(verdicts: list[Verdict], expected: Verdict) -> None:
    assert together(verdicts) is expected


def test_data_is_called_by_its_corpus() -> None:
    assert corpus("~/.cache/everlong/fetched/dictionary-70f8094d/train") == "dictionary"
    assert corpus("data/src") == "src"
