"""Copying, selective copying and induction heads, learnt in rows of up to 256 positions and asked for in longer ones.

Each family learns each task on token ids (`everlong.evaluate.suites`): in short rows first, so that a few hundred steps
suffice, with the same batches and learning rate for all. Then the rows grow, and the answers are as many as before.
They are read in pieces on carried state. One seed: differences of a few points mean nothing.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import torch

import everlong
from benchmarks.harness import record
from everlong.evaluate.suites import CopyingTask, InductionTask, SelectiveCopyingTask, Task, TaskLoader, accuracy
from everlong.train import WSD, Muon, Trainer

TASKS: dict[str, Task] = {
    "copying": CopyingTask(data=4),
    "selective copying": SelectiveCopyingTask(data=4),
    "induction": InductionTask(),
}
SHAPE: dict[str, Any] = {"layers": 2, "width": 64, "heads": 2, "vocabulary": 16}
FAMILIES: dict[str, dict[str, Any]] = {
    "mamba": {"state_size": 32},
    "hybrid": {"state_size": 32, "pattern": "mT", "hidden": 128},
    "transformer": {"hidden": 128},
}
STAGES = ((16, 200), (64, 100), (256, 500))
"""Positions of a row, and steps; every step learns from `POSITIONS`."""
POSITIONS, LEARNING_RATE = 4096, 1e-2
LENGTHS = (256, 1024, 4096, 16_384, 65_536, 262_144)
LONGEST = {"transformer": 16_384, "hybrid": 65_536}
"""Where a family stops, since its time grows with the square of the length."""
TESTED = 2**18
"""Positions that accuracy is measured on at each length, and no fewer than 8 rows; no model has seen their seed."""


def main() -> None:
    """Trains every model, as many at a time as there are cores, and keeps the result."""
    cells = list(itertools.product(TASKS, FAMILIES))
    with ProcessPoolExecutor(os.cpu_count(), mp_context=multiprocessing.get_context("spawn")) as pool:
        rows = list(pool.map(cell, *zip(*cells, strict=True)))
    training = {"stages": STAGES, "positions": POSITIONS, "learning_rate": LEARNING_RATE}
    settings = {"training": training, "tested": TESTED, "shape": SHAPE, "families": FAMILIES}
    chances = {name: {**task.to_dict(), "chance": task.chance} for name, task in TASKS.items()}
    record("extrapolation", {**settings, "tasks": chances, "models": rows})


def cell(task_name: str, family: str) -> dict[str, Any]:
    """Accuracy of one model after training, by length, and the processor's seconds that training and testing took."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    began, task = time.process_time(), TASKS[task_name]
    model = everlong.build(f"{family}:nano", **SHAPE, **FAMILIES[family])
    for window, steps in STAGES:
        train(model, task, window, steps)
    trained = time.process_time()
    lengths = [length for length in LENGTHS if length <= LONGEST.get(family, length)]
    answered = {length: answers(model.eval(), task, length) for length in lengths}
    spent = {"training_seconds": trained - began, "testing_seconds": time.process_time() - trained}
    return {"task": task_name, "family": family, "accuracy": answered, **spent}


def train(model: everlong.LanguageModel, task: Task, window: int, steps: int) -> None:
    """One stage."""
    optimizer, batch = Muon.Config(learning_rate=LEARNING_RATE, weight_decay=0.0), POSITIONS // window
    config = Trainer.Config(
        steps=steps, window=window, batch=batch, optimizer=optimizer, schedule=WSD(decay=0.5), precision="float32"
    )
    Trainer(config, model, TaskLoader(task, window=window, batch=batch, seed=0)).run()


def answers(model: everlong.LanguageModel, task: Task, length: int) -> float:
    """Accuracy at one length."""
    rows = max(8, TESTED // length)
    return accuracy(model, task, window=length, rows=rows, batch=max(1, 4096 // length), seed=1_000_000)


if __name__ == "__main__":
    main()
