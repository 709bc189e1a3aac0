"""Multi-query associative recall against bytes of state: what does each family remember, and in how much memory?

Every family learns the task of zoology (`everlong.evaluate.suites.AssociativeRecall`) at several widths and learning
rates, all with the same steps and batches; the best learning rate counts, as in zoology (Arora et al. 2023). State is
measured after a whole row. One seed: differences of a few points mean nothing.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import torch

import everlong
from benchmarks.harness import record
from everlong.core.state import state_bytes
from everlong.evaluate.suites import AssociativeRecall, TaskLoader, accuracy
from everlong.train import Muon, Trainer

TASK = AssociativeRecall(pairs=8, vocabulary=64)
WINDOW, BATCH, STEPS = 32, 64, 800
FAMILIES: dict[str, dict[str, Any]] = {
    "transformer": {"name": "transformer:nano"},
    "window": {"name": "window:nano", "window": 8},
    "sparse": {"name": "sparse:nano", "block": 8, "summary": 2},
    "linear": {"name": "linear:nano"},
}
"""The preset's name, and what it has besides `SHAPE`."""
SHAPE = {"layers": 2, "heads": 2, "vocabulary": TASK.vocabulary}
WIDTHS = (16, 32, 64)
LEARNING_RATES = (7e-3, 2e-2)
TESTED = 1000
"""Rows that accuracy is measured on; no model has seen their seed."""


def main() -> None:
    """Trains every model and keeps the result."""
    keep("recall", FAMILIES, WIDTHS)


def keep(name: str, families: Mapping[str, Mapping[str, Any]], widths: tuple[int, ...]) -> None:
    """Trains families at all widths and learning rates, as many at a time as there are cores; records it as `name`."""
    cells = list(itertools.product(families, widths, LEARNING_RATES))
    shapes = [{**SHAPE, **families[family], "width": width} for family, width, _ in cells]
    with ProcessPoolExecutor(os.cpu_count(), mp_context=multiprocessing.get_context("spawn")) as pool:
        found = dict(zip(cells, pool.map(cell, shapes, [rate for *_, rate in cells]), strict=True))
    rows = [best(found, family, width) for family in families for width in widths]
    settings = {"window": WINDOW, "batch": BATCH, "steps": STEPS, "task": TASK.to_dict(), "chance": TASK.chance}
    record(name, {**settings, "families": families, "models": rows})


def cell(shape: dict[str, Any], learning_rate: float) -> tuple[float, int]:
    """Accuracy of one model after training, and the bytes of its state after a row."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = everlong.build(**shape)
    optimizer = Muon.Config(learning_rate=learning_rate, weight_decay=0.0)
    config = Trainer.Config(steps=STEPS, window=WINDOW, batch=BATCH, optimizer=optimizer, precision="float32")
    Trainer(config, model, TaskLoader(TASK, window=WINDOW, batch=BATCH, seed=0)).run()
    found = accuracy(model.eval(), TASK, window=WINDOW, rows=TESTED, batch=BATCH, seed=1_000_000)
    with torch.inference_mode():
        held = state_bytes(model(torch.zeros(1, WINDOW, dtype=torch.int64)).state)
    return found, held


def best(found: dict[tuple[str, int, float], tuple[float, int]], family: str, width: int) -> dict[str, object]:
    """The learning rate with the best accuracy, and that of the others."""
    rates = {rate: found[family, width, rate] for rate in LEARNING_RATES}
    chosen = max(rates, key=lambda rate: rates[rate][0])
    return {
        "family": family,
        "width": width,
        "state_bytes": rates[chosen][1],
        "accuracy": rates[chosen][0],
        "learning_rate": chosen,
        "accuracy_by_learning_rate": {f"{rate:g}": value for rate, (value, _) in rates.items()},
    }


if __name__ == "__main__":
    main()
