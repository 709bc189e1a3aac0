"""The plan of a study: the size of every architecture under every matching, and the cells that follow from it.

FOLDER/plan.json      the study and its plan
FOLDER/timings.json   what was measured for it
FOLDER/cells/NAME/    see `cell.py`

A cell is named by what it is: architecture, size, learning rate, seed, and the updates at further budgets. Where two
matchings lead to the same size, they share its cells.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import everlong
from everlong.core.config import check
from everlong.lab.cell import Cell
from everlong.lab.cost import Cost, Scales
from everlong.lab.matching import Matching, Solved, own_sizes, solve
from everlong.lab.study import Architecture, Budget, Study

PLAN, TIMINGS, CELLS = "plan.json", "timings.json", "cells"
STARTING = 5.0
"""Seconds that a cell takes to load and save, about."""


@dataclass(frozen=True)
class Job:
    """A cell that is to be run, and where."""

    name: str
    cell: Cell
    seconds: float
    """How long it should take."""


@dataclass(frozen=True)
class Entry:
    """An architecture under a matching, at a budget."""

    matching: Matching
    label: str
    """How its comparison is called."""
    mark: str
    """What tells its cells from those of the study's first budget; empty for these."""
    architecture: Architecture
    solved: Solved
    cost: Cost
    steps: int
    seconds: float
    """Of one update."""

    def to_dict(self, study: Study) -> dict[str, Any]:
        """Plain values, with the names of its cells."""
        return {
            "matching": self.label,
            "quantity": self.matching.quantity,
            "tolerance": self.matching.tolerance,
            "target": self.solved.target,
            "value": self.solved.value,
            "architecture": self.architecture.name,
            "preset": self.architecture.preset,
            "along": self.architecture.along,
            "sizes": self.solved.sizes,
            "cost": asdict(self.cost),
            "steps": self.steps,
            "bytes": self.steps * study.bytes_per_step,
            "seconds_per_update": self.seconds,
            "model": self.solved.config.to_dict(),
            "sweep": {str(rate): self.name(rate, study.sweep_seed) for rate in study.tried},
            "runs": {
                str(rate): {str(seed): self.name(rate, seed) for seed in study.seeds} for rate in study.learning_rates
            },
        }

    def name(self, rate: float, seed: int) -> str:
        """The name of a cell."""
        sizes = [f"{name}{value}" for name, value in self.solved.sizes.items()]
        marks = [self.mark] if self.mark else []
        return "-".join([self.architecture.name, *sizes, *marks, f"rate{rate:g}", f"seed{seed}"])

    def job(self, study: Study, rate: float, seed: int) -> Job:
        """A cell of this entry."""
        training = study.training_of(self.architecture)
        training = training.replace(
            steps=self.steps, seed=seed, optimizer=training.optimizer.replace(learning_rate=rate)
        )
        cell = Cell(
            model=self.solved.config,
            training=training,
            data=study.data,
            tokenizer=study.tokenizer,
            held_out=study.held_out,
            metrics=study.metrics,
            questions=study.questions,
        )
        read = 2 * study.held_out.bytes + (0 if study.questions is None else study.questions.bytes(study.metrics))
        reading = read / (3 * study.bytes_per_step)  # in updates: a forward is a third
        return Job(self.name(rate, seed), cell, STARTING + (self.steps + reading) * self.seconds)


@dataclass(frozen=True)
class Plan:
    """A study and its entries."""

    study: Study
    entries: tuple[Entry, ...]

    def sweep(self) -> list[Job]:
        """The cells that learning rates are chosen by, each once."""
        study = self.study
        return _once([e.job(study, rate, study.sweep_seed) for e in self.entries for rate in study.tried])

    def runs(self, rates: dict[int, float]) -> list[Job]:
        """The cells that are reported, each once; `rates` has the learning rate of entry i, if one is chosen."""
        study, entries = self.study, self.entries
        return _once([entries[i].job(study, rate, seed) for seed in study.seeds for i, rate in rates.items()])

    @property
    def seconds(self) -> float:
        """Estimated time of everything, with the study's cells side by side."""
        return sum(job.seconds for job in self._usual()) / self.study.at_once

    @property
    def cells(self) -> int:
        """How many there are."""
        return len(self._usual())

    def _usual(self) -> list[Job]:
        """The cells if the first learning rate is always the best."""
        return self.sweep() + self.runs(dict.fromkeys(range(len(self.entries)), self.study.learning_rates[0]))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {"study": self.study.to_dict(), "entries": [entry.to_dict(self.study) for entry in self.entries]}


def make_plan(study: Study, *, threads: int, folder: Path | None = None) -> Plan:
    """Solves the sizes of a study.

    Args:
        threads: of a cell.
        folder: where measured times are kept, if it is the study's own.

    Raises:
        ConfigError: no size meets a target, or the budget is below one update.
        ContextError: a question is longer than a model can take.
        DataError: the corpus cannot be opened.
    """
    timings = None if folder is None else folder / TIMINGS
    scales = Scales(
        study.training, study.data, codec=study.codec, state_length=study.length, threads=threads, timings=timings
    )
    return Plan(study, tuple(entry for matching in study.matching for entry in _entries(study, matching, scales)))


def _entries(study: Study, matching: Matching, scales: Scales) -> list[Entry]:
    reference = study.architectures[0]
    like = own_sizes(reference.preset, study.arguments_of(reference))
    target = matching.target
    if target is None:
        config = everlong.config(reference.preset, **study.arguments_of(reference))
        target = matching.value(config, scales.at(study.training_of(reference)))
    made = []
    for own in study.architectures:
        weighed = scales.at(study.training_of(own))
        arguments = study.arguments_of(own)
        solved = solve(own.preset, arguments, matching, target=target, like=like, scales=weighed)
        if study.questions is not None:
            study.questions.check_model(solved.config, study.metrics)
        made += [_entry(study, matching, budget, own, solved, weighed) for budget in study.budgets]
    return made


def _entry(
    study: Study, matching: Matching, budget: Budget, own: Architecture, solved: Solved, scales: Scales
) -> Entry:
    cost = scales.cost(solved.config)
    steps = budget.steps(study.bytes_per_step, cost.flops_per_byte)
    check(steps >= 1, "study.budget", budget, f"is below one update of {own.name}: give more")
    label = f"{matching.label}, {budget.label}" if study.more_budgets else matching.label
    mark = "" if budget == study.budget else f"steps{steps}"
    return Entry(matching, label, mark, own, solved, cost, steps, scales.seconds(solved.config))


def _once(jobs: list[Job]) -> list[Job]:
    return list({job.name: job for job in jobs}.values())
