"""A cell: one model, trained and measured in a folder of its own.

CELL/config.yaml, metrics.jsonl, checkpoints/     the run, see `everlong.train.run`
CELL/status.json                                  what the cell is, how far it came, and its result
CELL/log.txt                                      what its process said
"""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

import everlong
from everlong.core.accounting import tell_costs_at
from everlong.core.config import Config
from everlong.core.errors import ConfigError, DataError
from everlong.data import codec_of
from everlong.evaluate.memory import highest_resident
from everlong.evaluate.output import write_json
from everlong.lab.metrics import METRICS, HeldOut, Trained, score
from everlong.lab.questions import Questions
from everlong.model.language_model import LanguageModel
from everlong.train import Callback, DataConfig, Record, Result, Trainer, load_run, read_records, train
from everlong.train.plain import check_same
from everlong.train.run import METRICS as RECORDS

STATUS = "status.json"
RUNNING, FINISHED, FAILED, INTERRUPTED = "running", "finished", "failed", "interrupted"


class Cell(Config):
    """Everything that a cell's result follows from."""

    model: LanguageModel.Config
    training: Trainer.Config
    data: DataConfig
    tokenizer: str | None = None
    held_out: HeldOut
    metrics: tuple[str, ...]
    questions: Questions | None = None

    def work(self, records: Sequence[Record]) -> float:
        """Training FLOPs that were taken: three forwards of every window, as the model declares them. Parts that choose
        by the data declare them at the share that they have chosen, measured from each record of training to the next.
        """
        with torch.device("meta"):
            model = self.model.build()
        flops, done = 0.0, 0
        for record in records:
            if record["kind"] == "train":
                tell_costs_at(model, record)
                updates, done = int(record["step"]) - done, int(record["step"])
                flops += 3.0 * model.flops(self.training.window) * self.training.batch * updates
        return flops


def run_cell(folder: Path, cell: Cell, callbacks: Sequence[Callback] = ()) -> str:
    """Trains and measures a cell, or goes on with it; returns its state. A failure is recorded, and raised.

    Raises:
        EverlongError: as `train` does, or the held-out documents do not suffice.
    """
    set_status(folder, cell, RUNNING)
    try:
        codec = codec_of(cell.tokenizer)
        trained = train(cell.model, cell.training, folder=folder, data=cell.data, codec=codec, callbacks=callbacks)
        if trained.interrupted is not None:
            set_status(folder, cell, INTERRUPTED)
            return INTERRUPTED
        set_status(folder, cell, FINISHED, result=_examined(folder, cell, trained))
    except Exception as error:
        set_status(folder, cell, FAILED, error=f"{type(error).__name__}: {error}")
        raise
    return FINISHED


def set_status(folder: Path, cell: Cell, state: str, **more: Any) -> None:
    """Writes a cell's status, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / STATUS, {"state": state, **more, "cell": cell.to_dict()})


def read_status(folder: Path) -> dict[str, Any] | None:
    """A cell's status; `None` before it has begun.

    Raises:
        DataError: it is damaged.
    """
    path = folder / STATUS
    if not path.is_file():
        return None
    try:
        status = json.loads(path.read_text(encoding="utf-8"))
        if status["state"] == FINISHED:
            status["result"]["bits_per_byte"]
    except (ValueError, LookupError, TypeError) as error:
        raise DataError(
            "status", str(path), f"is damaged ({error}): remove it, and the cell is measured again"
        ) from error
    return status


def check_cell(folder: Path, cell: Cell) -> dict[str, Any] | None:
    """The status of a folder, which must be this cell's.

    Raises:
        ConfigError: the study has changed since; the fields that differ are named.
    """
    status = read_status(folder)
    if status is not None:
        check_same(everlong.config_from_dict(status["cell"]).to_dict(), cell.to_dict(), folder, ConfigError)
    return status


def _examined(folder: Path, cell: Cell, trained: Result) -> dict[str, Any]:
    """All that is reported of a trained cell."""
    peak = highest_resident()
    run, corpus = load_run(folder), cell.data.open(codec_of(cell.tokenizer))
    window, records = cell.training.window, read_records(folder / RECORDS)
    selection = score(run.model, corpus.validation, "selection", window, cell.held_out)
    reported = score(run.model, corpus.validation, "reported", window, cell.held_out)
    measured = Trained(run.model, reported, corpus.validation, window, cell.held_out, cell.questions)
    per_step = trained.bytes_seen / max(1, trained.step)
    return {
        "selection": selection.bits_per_byte,
        **{name: METRICS[name](measured) for name in cell.metrics if name in METRICS},
        "learning": [[int(r["step"]) * per_step, r["bits_per_byte"]] for r in records if r["kind"] == "validation"],
        "steps": trained.step,
        "bytes_seen": trained.bytes_seen,
        "flops": cell.work(records),
        "seconds": trained.seconds,
        "bytes_per_second": trained.bytes_seen / (trained.compute_share * trained.seconds),
        "peak_memory": peak,
        "threads": torch.get_num_threads(),
        "model": run.fingerprint,
        "corpus": corpus.fingerprint,
        "versions": {
            "everlong": everlong.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
    }
