"""README's numbers are those of the results that are kept."""

from __future__ import annotations

import json
from pathlib import Path

from studies.evidence.demo import demo
from studies.evidence.kept import ROOT, Kept
from studies.evidence.readme import put, readme


def test_it_is_up_to_date() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert readme(text, Kept()) == text, "write it anew: python -m studies.evidence"


def test_only_what_is_between_the_marks_changes() -> None:
    text = "before\n<!-- one:begin -->\nold\n<!-- one:end -->\nafter <!-- one:end --> <!-- other:begin -->"
    assert put(text, "one", "new") == text.replace("old", "new")


def test_the_demos_numbers_are_those_of_its_runs(tmp_path: Path) -> None:
    assert "everlong demo" in demo(Kept(tmp_path))
    for name, bits in (("demo_bfloat16", 0.5), ("demo_float32", 0.75)):
        found = Kept().benchmark(name)
        assert found is not None
        path = tmp_path / "benchmarks" / "results" / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({**found, "heldout_bits_per_byte": bits, "xz_primed_bits_per_byte": 1.25}))
    told = " ".join(demo(Kept(tmp_path)).split())
    assert "| Everlong | **0.500 ± " in told
    assert "needs 60% less than that" in told
    assert "in its time: 0.750 ± " in told
