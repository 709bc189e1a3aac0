"""`everlong train`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal

import tyro

from everlong.cli.arguments import Overrides, Preset, Sources, configured
from everlong.cli.tables import note, say
from everlong.data import codec_of
from everlong.data.corpora import sources
from everlong.train import WSD, AdamW, ConsoleProgress, Cosine, DataConfig, Linear, Muon, TensorBoard, Trainer
from everlong.train import train as trained
from everlong.train.row_adam import RowAdam
from everlong.train.rowwise_adagrad import RowwiseAdagrad

OPTIMIZERS = {"adamw": AdamW.Config, "muon": Muon.Config}
TABLES = {"adagrad": RowwiseAdagrad.Config, "adam": RowAdam.Config}
SCHEDULES = {"cosine": Cosine, "linear": Linear, "wsd": WSD}


def train(
    preset: Preset,
    /,
    *,
    training: Annotated[Trainer.Config, tyro.conf.arg(name="")],
    data: Sources = (),
    validation: Sources = (),
    validation_fraction: float = 0.05,
    tokenizer: Path | None = None,
    out: Path | None = None,
    override: Overrides = (),
    optimizer: Literal["adamw", "muon"] = "adamw",
    schedule: Literal["cosine", "linear", "wsd"] = "cosine",
    tensorboard: bool = False,
    tables: Path | None = None,
    table_optimizer: Literal["adagrad", "adam"] = "adagrad",
) -> None:
    """Train a model on files, or on the standard library's sources.

    The run's folder holds its configuration, its metrics and its checkpoints. The same command goes on where it was
    stopped, by Ctrl-C, a kill or a power cut, as if it had never been.

    For example:
      everlong train window:tiny --steps 2000
      everlong train linear:tiny --data src/ 'docs/**/*.md' --out runs/mine --steps 5000
      everlong train window:tiny --override layers=4 width=128 heads=2 --steps 2000 --batch 24 --optimizer muon

    Args:
        preset: the architecture and its size; see `everlong presets`
        data: files, folders and globs to learn from, plain or packed with gzip, bzip2, xz or zstd, or the name of a
            corpus that `everlong data fetch` has fetched; the standard library's own sources if none are given
        validation: hold out exactly these, instead of a share of the documents
        validation_fraction: share of the documents to hold out
        tokenizer: a byte-level tokenizer.json to learn tokens instead of bytes with (extra `hf`)
        out: the run's folder; runs/PRESET if not given
        override: arguments of the preset to change, such as width=64 layers=2
        optimizer: its own settings are among the options below; name it first to see them
        schedule: of the learning rate; likewise
        tensorboard: write TensorBoard's files too (extra `track`)
        tables: a folder on whose disk tables of n-gram memory live while they learn, if they are too large for memory
        table_optimizer: of those tables' rows, adaptive by row or by number; its own settings are among the options
            below, under `optimizer.tables`
    """
    codec = codec_of(tokenizer)
    model = configured(preset, override, vocabulary=codec.vocabulary)
    named, held_out = sources(data, validation)
    source = DataConfig(sources=named, validation_sources=held_out, validation_fraction=validation_fraction)
    folder = out or Path("runs", preset.replace(":", "-"))
    callbacks = [ConsoleProgress(), *([TensorBoard(folder / "tensorboard")] if tensorboard else [])]
    result = trained(model, training, folder=folder, data=source, codec=codec, callbacks=callbacks, tables=tables)
    say(str(folder))
    if result.interrupted is not None:
        note("stopped; the same command goes on from here")
        raise SystemExit(128 + result.interrupted)  # as shells have it


def prepare(arguments: Sequence[str]) -> Callable[..., None]:
    """`train` with the settings of the optimizers and the schedule that the arguments choose."""
    optimizer = OPTIMIZERS.get(_chosen(arguments, "--optimizer"), AdamW.Config)
    rows = TABLES.get(_chosen(arguments, "--table-optimizer"), RowwiseAdagrad.Config)
    schedule = SCHEDULES.get(_chosen(arguments, "--schedule"), Cosine)
    return partial(train, training=Trainer.Config(steps=1000, optimizer=optimizer(tables=rows()), schedule=schedule()))


def _chosen(arguments: Sequence[str], option: str) -> str:
    """The value of an option, or nothing."""
    following = [after for before, after in pairwise(arguments) if before == option]
    joined = [argument.partition("=")[2] for argument in arguments if argument.startswith(f"{option}=")]
    return (following + joined or [""])[-1]
