"""Kept runs of the passkey study: which are alike but for the seed, and what they show together."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

Run = dict[str, Any]
KIND = ("update", "ablation", "haystack", "keys")
"""Settings that tell one kind of run from another."""


def is_plain(run: Run) -> bool:
    """Nothing ablated, and one key in a haystack that repeats itself."""
    settings = run["settings"]
    return (settings["ablation"], settings["haystack"], settings["keys"]) == ("none", "repetitive", 1)


def alike(runs: Iterable[Run]) -> list[list[Run]]:
    """The runs of each kind, by seed."""
    kinds: dict[tuple[Any, ...], list[Run]] = {}
    for run in sorted(runs, key=lambda run: run["settings"]["seed"]):
        kinds.setdefault(tuple(run["settings"][name] for name in KIND), []).append(run)
    return list(kinds.values())


def pooled(runs: list[Run]) -> Run:
    """The first of some runs that are alike, with the accuracy of all: shares of the texts of all seeds, at the lengths
    that all were measured at."""
    measured = [{each["length"]: each for each in run["accuracy"]} for run in runs]
    lengths = set.intersection(*map(set, measured))
    return runs[0] | {"accuracy": [_together([each[n] for each in measured]) for n in sorted(lengths)]}


def mean_digits(run: Run) -> dict[int, float]:
    """Share of right digits by length, over all depths."""
    return {each["length"]: float(np.mean(list(each["digits"].values()))) for each in run["accuracy"]}


def _together(found: list[dict[str, Any]]) -> dict[str, Any]:
    rows = [each["rows"] for each in found]
    shares = {
        told: {at: float(np.average([each[told][at] for each in found], weights=rows)) for at in found[0][told]}
        for told in ("digits", "exact")
    }
    return {"length": found[0]["length"], "rows": sum(rows), **shares}
