"""The training loop. It knows no architecture: a model takes ids, documents and a state, and gives logits.

A step takes a batch and learns from it, or skips it as though it had not been; then the callbacks hear of it, and
the run is saved if a checkpoint is due. So whatever belongs to update n is done before n is saved, and a run that
goes on from there repeats none of it and misses none.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

from everlong.core.config import check, check_divides
from everlong.core.errors import TrainingError
from everlong.data import Batches
from everlong.model.language_model import LanguageModel
from everlong.train.callbacks import Callback
from everlong.train.checkpoints import Checkpoints
from everlong.train.interruption import Interruption
from everlong.train.learner import Learner
from everlong.train.meter import Meter
from everlong.train.progress import Progress, Result, Step
from everlong.train.recompute import recomputed
from everlong.train.schedules import Cosine, Schedule
from everlong.train.snapshot import Snapshot, read_snapshot, snapshot_bytes, write_snapshot


class Trainer:
    """Trains a model.

    Args:
        model: in the dtype in which weights and optimizer are to be kept; on its device.
        loader: gives batches of `config.window` and `config.batch`, carried if `config.carry`.
        callbacks: hear of every step, in this order.
        checkpoints: where to save; `None`: nowhere.
        roofline: FLOP/s that utilisation is measured against, if known.

    Raises:
        ConfigError: loader or model are not what the configuration says, or the model cannot be compiled here.
    """

    class Config(Learner.Config):
        steps: int
        """Updates of the weights."""
        window: int = 512
        """Positions of a row."""
        batch: int = 16
        """Rows of an update."""
        schedule: Schedule = Cosine()
        """Of the learning rate."""
        seed: int = 0
        """Of the first weights, the order of the data, and whatever else is drawn."""
        recompute: bool = False
        """Run blocks again in the backward instead of keeping what they computed."""
        max_bad_steps: int = 10
        """Steps in a row without a finite loss and gradient after which training stops."""
        checkpoint_every: int | None = 500
        """Updates between checkpoints; `None`: only one, at the end."""
        keep: int = 2
        """Checkpoints to keep."""
        log_every: int = 10
        """Updates between records."""
        evaluate_every: int | None = 250
        """Updates between looks at held-out data; `None`: never."""
        evaluate_windows: int = 32
        """Held-out windows to look at."""

        def __post_init__(self) -> None:
            super().__post_init__()
            for name in ("steps", "window", "batch", "max_bad_steps", "keep", "log_every", "evaluate_windows"):
                check(getattr(self, name) >= 1, f"trainer.{name}", getattr(self, name), "must be at least 1")
            for name in ("checkpoint_every", "evaluate_every"):
                value = getattr(self, name)
                check(value is None or value >= 1, f"trainer.{name}", value, "must be at least 1, or None")
            check(self.seed >= 0, "trainer.seed", self.seed, "must be 0 or more")
            check_divides(self.accumulation, self.batch, "trainer.accumulation", "trainer.batch")

    def __init__(
        self,
        config: Trainer.Config,
        model: LanguageModel,
        loader: Batches,
        *,
        callbacks: Sequence[Callback] = (),
        checkpoints: Checkpoints | None = None,
        roofline: float | None = None,
    ) -> None:
        for name in ("window", "batch", "carry"):
            theirs, ours = getattr(loader, name), getattr(config, name)
            check(theirs == ours, f"loader.{name}", theirs, f"must be trainer.{name}, {ours}")
        self.config, self.model, self.loader, self.checkpoints = config, model, loader, checkpoints
        self.learner = Learner(config, model)
        flops = 3 * model.flops(config.window) * config.batch
        self.callbacks = [Meter(config.log_every, flops, roofline), *callbacks]
        self.progress = Progress()
        self._saved: int | None = None
        self._ended = 0.0

    def run(self) -> Result:
        """Trains until all steps are made, or until SIGINT or SIGTERM; saves, and tells how it went.

        Raises:
            TrainingError: `max_bad_steps` steps in a row were not finite. The last good weights are saved.
            CheckpointError: a checkpoint cannot be written.
        """
        result: Result | None = None
        if self.checkpoints is not None:
            self.checkpoints.check_room(snapshot_bytes(self.model))
        self.model.train()
        with ExitStack() as stack:
            stack.callback(lambda: [callback.on_end(result) for callback in self.callbacks])
            if self.config.recompute:
                stack.enter_context(recomputed(self.model, carry=self.config.carry))
            for callback in self.callbacks:
                callback.on_start(self.progress.step, self.config.steps)
            result = Result.of(self.progress, self._loop())
        return result

    def advance(self) -> Step:
        """Takes a batch, learns from it or skips it, and counts."""
        batch = next(self.loader)
        begun = time.perf_counter()
        update = self.learner.learn(batch, self.config.schedule.factor(self.progress.step, self.config.steps))
        now = time.perf_counter()
        seconds, compute_seconds, self._ended = now - self._ended, now - begun, now
        self.progress.count(update, batch, seconds, compute_seconds)
        return Step(
            **vars(update),
            targets=batch.learnt,
            bytes=batch.byte_count,
            seconds=seconds,
            compute_seconds=compute_seconds,
            step=self.progress.step,
            steps=self.config.steps,
            bytes_seen=self.progress.bytes_seen,
            bad_steps=self.progress.bad_steps,
        )

    def save(self) -> None:
        """Saves a checkpoint, unless this update is saved already.

        Raises:
            CheckpointError: it cannot be written; earlier ones are intact.
        """
        if self.checkpoints is not None and self._saved != self.progress.step:
            self.checkpoints.save(self.progress.step, self._write)
            if (tables := self.learner.optimizer.tables) is not None:
                tables.saved()
            self._saved = self.progress.step

    def resume(self) -> None:
        """Goes on from the newest whole checkpoint, if there is one; tidies up what a killed run left.

        Raises:
            CheckpointError: all checkpoints are damaged, or they are of another configuration or corpus.
        """
        if self.checkpoints is None:
            return
        opened = self.checkpoints.open()
        self.checkpoints.tidy(opened.damaged if opened else ())
        if opened:
            self._read(opened.path)
            self._saved = self.progress.step

    def _loop(self) -> int | None:
        """Steps until the end; returns the signal that came before it."""
        every = self.config.checkpoint_every
        self._ended = time.perf_counter()
        with Interruption() as interruption:
            while self.progress.step < self.config.steps and interruption.signal is None:
                step = self.advance()
                self._tell(step)
                self._stop_if_bad(step)
                if every and step.step % every == 0:
                    self.save()
            self.save()
        self.progress.seconds += time.perf_counter() - self._ended
        return interruption.signal if self.progress.step < self.config.steps else None

    def _tell(self, step: Step) -> None:
        """Tells every callback of a step, then of every record that was made of it."""
        made = [callback.on_step(step) for callback in self.callbacks]
        for record in made:
            if record is not None:
                self.progress.records[str(record["kind"])] = record
                for callback in self.callbacks:
                    callback.on_record(record)

    def _stop_if_bad(self, step: Step) -> None:
        if self.progress.bad_in_a_row >= self.config.max_bad_steps:
            self.save()
            remedy = (
                f"after update {step.step}, {self.progress.bad_in_a_row} steps in a row had no finite loss and "
                "gradient; the weights from before are kept: lower the learning rate, or warm up longer"
            )
            raise TrainingError("loss", step.nats / max(1, step.targets), remedy)

    def _write(self, folder: Path) -> None:
        values = {
            "progress": asdict(self.progress),
            "loader": self.loader.state_dict(),
            "callbacks": {type(callback).__name__: callback.state_dict() for callback in self.callbacks},
        }
        last = None if self._saved is None or self.checkpoints is None else self.checkpoints.path(self._saved)
        snapshot = Snapshot(values, self.learner.streams)
        write_snapshot(folder, self.model, self.learner.optimizer, snapshot, last)

    def _read(self, folder: Path) -> None:
        snapshot = read_snapshot(folder, self.model, self.learner.optimizer)
        self.learner.streams = snapshot.streams
        self.progress = Progress(**snapshot.values["progress"])
        self.loader.load_state_dict(snapshot.values["loader"])
        for callback in self.callbacks:
            if (state := snapshot.values["callbacks"].get(type(callback).__name__)) is not None:
                callback.load_state_dict(state)
