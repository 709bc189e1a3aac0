"""What parts show reaches the report: by architecture and label, in both modes, over the seeds."""

from __future__ import annotations

from everlong.lab.metrics import MODES, OBSERVED
from everlong.lab.observed import observed
from everlong.lab.results import Group


def group(name: str, *found: dict[str, dict[str, float]]) -> Group:
    return Group({"architecture": name}, {}, None, {str(seed): {OBSERVED: each} for seed, each in enumerate(found)})


def test_every_label_has_its_mean_and_its_extremes() -> None:
    streaming, training = MODES
    routed = group(
        "mod",
        {streaming: {"share": 0.1}, training: {"share": 0.125, "accuracy": 0.96}},
        {streaming: {"share": 0.2}, training: {"share": 0.125, "accuracy": 0.98}},
    )
    (table,) = observed("At equal FLOPs", [group("dense", {streaming: {}, training: {}}), routed])
    assert list(table.rows) == [
        ("mod", "share", "0.1500 (0.1000 to 0.2000)", "0.1250 (0.1250 to 0.1250)"),
        ("mod", "accuracy", "", "0.9700 (0.9600 to 0.9800)"),
    ]
    assert table.columns == ("architecture", "what", "in a stream", "in training")


def test_none_where_it_was_not_measured() -> None:
    assert list(observed("", [Group({"architecture": "dense"}, {}, None, {"0": {}})])) == []
