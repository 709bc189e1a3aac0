"""What is in a checkpoint: everything that a run needs to go on as if it had never stopped.

    model.safetensors        weights
    tables-*.safetensors     tables, see `table_files.py`
    optimizer.safetensors    what the optimizer remembers, by name of the parameter; torch's random states
    streams.safetensors      the state that carried streams stand in, if any are
    trainer.json             progress, place in the data, callbacks, Python's and NumPy's random states

safetensors and JSON only: reading one runs no code.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import nn

from everlong.core.state import load_state, save_state
from everlong.train.optimizers import Optimizer
from everlong.train.randomness import random_tensors, random_values, restore_random
from everlong.train.table_files import read_tables, write_tables
from everlong.train.weights import dense_weights, load_weights

MODEL, OPTIMIZER, STREAMS, TRAINER = "model.safetensors", "optimizer.safetensors", "streams.safetensors", "trainer.json"


@dataclass(frozen=True)
class Snapshot:
    """What is not in the model or the optimizer."""

    values: dict[str, Any]
    """Progress, loader and callbacks: JSON values."""
    streams: tuple[Any, ...] | None
    """The carried state of every part of the batch; `None`: the next batch begins afresh."""


def snapshot_bytes(model: nn.Module) -> int:
    """About how large a checkpoint will be: the weights, and at most two numbers that an optimizer keeps for each.
    Tables come on top, row by row as they are used."""
    return 3 * sum(tensor.nbytes for tensor in dense_weights(model).values())


def write_snapshot(
    folder: Path, model: nn.Module, optimizer: Optimizer, snapshot: Snapshot, previous: Path | None = None
) -> None:
    """Writes everything into a folder.

    Args:
        previous: the run's last checkpoint, which holds the rows that did not change since.

    Raises:
        OSError, SafetensorError: the disk is full, or cannot be written.
    """
    save_file(dense_weights(model), folder / MODEL)
    write_tables(folder, model, optimizer.tables, previous)
    save_file({**optimizer.tensors(), **random_tensors()}, folder / OPTIMIZER)
    if snapshot.streams is not None:
        save_state(snapshot.streams, folder / STREAMS)
    values = {**snapshot.values, "optimizer": optimizer.groups(), "random": random_values()}
    (folder / TRAINER).write_text(json.dumps(values), encoding="utf-8")


def read_weights(folder: Path, model: nn.Module) -> None:
    """Puts the weights of a verified checkpoint into a model.

    Raises:
        CheckpointError: they are of another model.
    """
    load_weights(model, load_file(folder / MODEL))
    read_tables(folder, model, None)


def read_snapshot(folder: Path, model: nn.Module, optimizer: Optimizer) -> Snapshot:
    """Puts model, optimizer and every random generator where `write_snapshot` found them, and returns the rest.

    Raises:
        CheckpointError: the checkpoint is of another model or optimizer.
    """
    values: dict[str, Any] = json.loads((folder / TRAINER).read_text(encoding="utf-8"))
    tensors = load_file(folder / OPTIMIZER)
    states = {name: tensors.pop(name) for name in list(tensors) if name.startswith("random:")}
    load_weights(model, load_file(folder / MODEL))
    read_tables(folder, model, optimizer.tables)
    device = next(model.parameters()).device
    streams = load_state(folder / STREAMS, device) if (folder / STREAMS).exists() else None
    optimizer.load(tensors, values["optimizer"])
    restore_random(states, values["random"])
    return Snapshot(values, streams)
