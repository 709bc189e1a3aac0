"""The table of systems is what the big table says."""

from __future__ import annotations

from pathlib import Path

from studies.evidence.kept import Kept
from studies.evidence.systems import systems
from tests.studies.made import Made


def test_without_results_it_tells_the_command(tmp_path: Path) -> None:
    assert "everlong compare studies/table.py" in systems(Kept(tmp_path))


def test_rows_hold_what_was_measured_best_first(tmp_path: Path) -> None:
    made = Made(tmp_path)
    measured = {
        "recall": {"exact": [0.9, 0.25]},
        "speed": {"reading": [1.0, 12_345.0], "decoding": [1.0, 67.0]},
        "threads": 2,
    }
    bits = {"one": 2.0, "other": 1.5}
    made.study("table", bits, runs={name: [measured] * 3 for name in bits})
    cost = {"non_embedding": 1000, "parameters": 1500, "state_bytes": 2048}
    made.rewrite("table", lambda plan: {"preset": f"{plan['architecture']}:nano", "cost": cost})
    lines = systems(made.kept).splitlines()
    assert lines[0].endswith("speeds with 2 threads:")
    assert [line.split(" | ")[0] for line in lines[-2:]] == ["| `other`", "| `one`"]
    assert lines[-2].endswith("| 1.5 k | 2 KiB | 12.3 k | 67 | 25% |")
    assert lines[-2].split(" | ")[1].startswith("1.5")
