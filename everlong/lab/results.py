"""The results of a study as one small JSON file, from which pages and figures are made again.

It holds the plan, the sweeps, and of every reported cell what `cell.py` has measured. What is not finished is listed
with its reason.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from everlong.core.errors import DataError
from everlong.evaluate.output import write_json
from everlong.lab.cell import FAILED, FINISHED, read_status
from everlong.lab.plan import CELLS, PLAN
from everlong.lab.statistics import Interval, interval

RESULTS = "results.json"
FORMAT = 1
"""Version of the file."""


@dataclass(frozen=True)
class Group:
    """An architecture under a matching: its plan, its sweep and its seeds."""

    plan: dict[str, Any]
    """As `Entry.to_dict` has it."""
    sweep: dict[str, dict[str, Any]]
    """By learning rate: `state`, and `loss` or `error` where there is one."""
    rate: str | None
    """The learning rate that was chosen, if all were tried."""
    runs: dict[str, dict[str, Any]]
    """What was measured, by seed; the finished ones only."""

    @property
    def name(self) -> str:
        return self.plan["architecture"]

    @property
    def edge(self) -> bool:
        """Whether the chosen rate is the smallest or largest of several, so that a better one may lie beyond."""
        rates = sorted(self.sweep, key=float)
        return len(rates) > 1 and self.rate in (rates[0], rates[-1])

    def bits(self, seeds: list[str]) -> np.ndarray:
        """Bits that the models of these seeds take for every document, (S, D)."""
        return np.array([self.runs[seed]["bits_per_byte"]["bits"] for seed in seeds])

    @cached_property
    def interval(self) -> Interval | None:
        """Bits per byte; `None` with fewer than two finished seeds."""
        seeds = list(self.runs)
        return None if len(seeds) < 2 else interval(self.bits(seeds), document_bytes(self))

    def mean(self, field: str) -> float:
        """The mean of a number over the finished seeds."""
        return float(np.mean([run[field] for run in self.runs.values()]))


@dataclass(frozen=True)
class Results:
    """What a study has found so far."""

    study: dict[str, Any]
    groups: tuple[Group, ...]
    missing: tuple[dict[str, str], ...]
    """`cell`, `state` and `error` of what is not finished."""

    def matchings(self) -> Iterator[tuple[str, list[Group]]]:
        """The groups of every comparison, under its label."""
        for label in dict.fromkeys(group.plan["matching"] for group in self.groups):
            yield label, [group for group in self.groups if group.plan["matching"] == label]


def difference(one: Group, other: Group) -> Interval | None:
    """Bits per byte of `one` less those of `other`, paired; `None` with fewer than two seeds that both have."""
    seeds = [seed for seed in one.runs if seed in other.runs]
    if len(seeds) < 2:
        return None
    return interval(one.bits(seeds) - other.bits(seeds), document_bytes(one))


def document_bytes(group: Group) -> np.ndarray:
    """Bytes of every document, (D,)."""
    return np.array(next(iter(group.runs.values()))["bits_per_byte"]["bytes"])


def chosen_rate(entry: dict[str, Any], cells: Path) -> float | None:
    """The learning rate with the lowest loss on the selection half, or the only one; `None` until all were tried, or
    if all failed."""
    sweep = _sweep(entry, cells)
    if not sweep:
        return float(*entry["runs"])  # there is but one
    if any(trial["state"] not in (FINISHED, FAILED) for trial in sweep.values()):
        return None
    losses = {float(rate): trial["loss"] for rate, trial in sweep.items() if "loss" in trial}
    return min(losses, key=lambda rate: losses[rate], default=None)


def collect(folder: Path) -> None:
    """Writes what the cells of a study have found into FOLDER/results.json.

    Raises:
        DataError: a plan or a status is damaged, or cells have read different corpora.
    """
    plan, cells = _json(folder / PLAN), folder / CELLS
    results: dict[str, dict[str, Any]] = {}
    groups, missing = [], {}
    for entry in plan["entries"]:
        chosen = chosen_rate(entry, cells)
        rate = None if chosen is None else str(chosen)
        names = {} if rate is None else entry["runs"][rate]
        for name in [*entry["sweep"].values(), *names.values()]:
            status = read_status(cells / name) or {"state": "not begun"}
            if status["state"] == FINISHED:
                results[name] = status["result"]
            else:
                missing[name] = {"cell": name, "state": status["state"], "error": status.get("error", "")}
        runs = {seed: name for seed, name in names.items() if name in results}
        told = {name: value for name, value in entry.items() if name not in ("sweep", "runs")}
        groups.append({"plan": told, "sweep": _sweep(entry, cells), "rate": rate, "runs": runs})
    reported = {name: results[name] for group in groups for name in group["runs"].values()}
    _check_paired(reported)
    plain = {"format": FORMAT, "study": plan["study"], "groups": groups, "cells": reported}
    write_json(folder / RESULTS, {**plain, "missing": list(missing.values())})


def load(folder: Path) -> Results:
    """The results in a folder.

    Raises:
        DataError: there are none, they are damaged or of another version, or not one reported cell is finished.
    """
    plain, path = _json(folder / RESULTS), folder / RESULTS
    if plain.get("format") != FORMAT:
        raise DataError("results", str(path), f"is of format {plain.get('format')!r}, not {FORMAT}: collect it again")
    try:
        groups = [
            Group(**{**group, "runs": {seed: plain["cells"][name] for seed, name in group["runs"].items()}})
            for group in plain["groups"]
        ]
        return Results(plain["study"], tuple(groups), tuple(plain["missing"]))
    except (LookupError, TypeError, AttributeError) as error:
        raise DataError("results", str(path), f"is damaged ({error!r}): collect it again") from error


def _sweep(entry: dict[str, Any], cells: Path) -> dict[str, dict[str, Any]]:
    """How every learning rate did."""
    trials = {}
    for rate, name in entry["sweep"].items():
        status = read_status(cells / name) or {"state": "not begun"}
        trials[rate] = {"state": status["state"]}
        if status["state"] == FINISHED:
            trials[rate]["loss"] = status["result"]["selection"]
        elif "error" in status:
            trials[rate]["error"] = status["error"]
    return trials


def _check_paired(cells: dict[str, dict[str, Any]]) -> None:
    """Makes sure that all cells have learnt from and read the same documents."""
    first = next(iter(cells.values()), None)
    for name, cell in cells.items():
        assert first is not None
        if (cell["corpus"], cell["bits_per_byte"]["bytes"]) != (first["corpus"], first["bits_per_byte"]["bytes"]):
            remedy = "has read another corpus than the cells before: files have changed; run the study in a new folder"
            raise DataError("cell", name, remedy)


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        remedy = "is not there: name the folder of a study that `everlong compare` has run, or of committed results"
        raise DataError("results", str(path), remedy)
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError("results", str(path), f"is damaged ({error}): collect it again") from error
    if not isinstance(plain, dict):
        raise DataError("results", str(path), "is damaged (no object): collect it again")
    return plain
