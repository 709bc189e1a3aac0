"""From a configuration to a trained model in a folder: what `everlong train` and the demo call."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import torch

from everlong.core.config import check
from everlong.core.span import Span
from everlong.data import Batch, ByteCodec, Codec, Corpus, Loader
from everlong.memory.prefetch import prefetch
from everlong.memory.storage import on_disk
from everlong.model.language_model import LanguageModel
from everlong.train.ahead import Ahead
from everlong.train.allocator import keep_freed_memory
from everlong.train.callbacks import Callback, JsonLines
from everlong.train.checkpoints import Checkpoints
from everlong.train.precision import default_device, dtype_of
from everlong.train.progress import Result
from everlong.train.randomness import seed_all
from everlong.train.roofline import matmul_rate
from everlong.train.run import CHECKPOINTS, CONFIG, METRICS, DataConfig, RunConfig, check_run, locked, make_run
from everlong.train.trainer import Trainer
from everlong.train.validation import Validation, held_out


def train(
    model: LanguageModel.Config,
    training: Trainer.Config,
    *,
    folder: str | Path,
    data: DataConfig = DataConfig(),  # noqa: B008  # frozen
    codec: Codec | None = None,
    resume: bool = True,
    device: torch.device | str | None = None,
    callbacks: Sequence[Callback] = (),
    cache: str | Path | None = None,
    tables: str | Path | None = None,
) -> Result:
    """Trains a model in a run's folder, or goes on from where the folder's run was left.

    The process keeps the memory that it frees from then on, see `everlong.train.allocator`.

    Args:
        folder: the run's folder; see `everlong.train.run`.
        codec: turns documents into ids; `None`: bytes.
        resume: go on with a run that is there; otherwise refuse it.
        device: `None`: the GPU if there is one.
        callbacks: hear of the run, besides the metrics file and the validation.
        cache: where the corpus is kept; by default in the user's own cache.
        tables: a folder in whose file system tables live while they learn; `None`: in memory. It changes no number.

    Raises:
        ConfigError: model, codec, data and training do not fit together, or the folder holds another run.
        DataError: a file cannot be read, or there is too little data.
        CheckpointError: no checkpoint of the folder can be used, or one cannot be written.
        TrainingError: the loss did not stay finite.
    """
    folder, codec = Path(folder).expanduser(), codec or ByteCodec()
    config = RunConfig(model=model, codec=codec.fingerprint(), data=data, training=training)
    check_fits(config, codec)
    there = resume or not (folder / CONFIG).exists()
    check(there, "folder", str(folder), "holds a run already: resume it, or name another folder")
    check_run(folder, config)
    place = nullcontext() if tables is None else on_disk(tables)
    with place:
        trainer = _trainer(config, data.open(codec, cache), folder, callbacks, torch.device(device or default_device()))
    if tables is not None:
        trainer.loader = Ahead(trainer.loader, partial(_ask_for_rows, trainer.model))
    make_run(folder, config, codec)
    keep_freed_memory()
    with locked(folder):
        trainer.resume()
        return trainer.run()


def check_fits(config: RunConfig, codec: Codec) -> None:
    """Finds what would stop the training later.

    Raises:
        ConfigError: the model cannot say all of the codec's ids, or cannot take the windows.
    """
    vocabulary, limit = config.model.vocabulary, config.model.context_limit
    remedy = f"must be at least {codec.vocabulary}, the codec's own"
    check(vocabulary >= codec.vocabulary, "model.vocabulary", vocabulary, remedy)
    window = config.training.window
    check(limit is None or window <= limit, "trainer.window", window, f"is beyond the model's context_limit, {limit}")
    remedy = f"lets documents grow beyond the model's context_limit, {limit}: set it to None"
    check(limit is None or not config.training.carry, "trainer.carry", True, remedy)


def _ask_for_rows(model: LanguageModel, batch: Batch) -> None:
    """Begins to read the rows that a batch looks up."""
    prefetch(model, Span.plain_from(batch.ids_BT))


def _trainer(
    config: RunConfig, corpus: Corpus, folder: Path, callbacks: Sequence[Callback], device: torch.device
) -> Trainer:
    """Everything that a run is made of, under its seed."""
    training = config.training
    roofline = matmul_rate(dtype_of(training.precision), device)
    seed_all(training.seed)
    model = config.model.build().to(device)
    window, batch = training.window, training.batch
    loader = Loader(corpus.train, window=window, batch=batch, seed=training.seed, carry=training.carry)
    validation: list[Callback] = []
    if training.evaluate_every is not None:
        rows, windows = batch // training.accumulation, training.evaluate_windows
        batches = held_out(corpus.validation, window=window, batch=rows, windows=windows)
        validation.append(Validation(model, batches, training.evaluate_every, training.precision))
    return Trainer(
        training,
        model,
        loader,
        callbacks=[*validation, JsonLines(folder / METRICS), *callbacks],
        checkpoints=Checkpoints(folder / CHECKPOINTS, config, training.keep),
        roofline=roofline,
    )
