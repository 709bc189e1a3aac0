"""A run is a folder.

RUN/config.yaml        everything that the run follows from: model, codec, data, training
RUN/codec.json         the codec itself, with a tokenizer's whole vocabulary if it has one
RUN/metrics.jsonl      records, one a line
RUN/checkpoints/       see `checkpoints.py`
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
import yaml

import everlong
from everlong.core.config import Config
from everlong.core.errors import CheckpointError, ConfigError
from everlong.data import Codec, Corpus, codec_from_config, open_corpus
from everlong.model.language_model import LanguageModel
from everlong.train.checkpoints import Checkpoints
from everlong.train.plain import check_same, read_yaml, write_yaml
from everlong.train.snapshot import read_weights
from everlong.train.trainer import Trainer
from everlong.train.weights import model_fingerprint

CONFIG, CODEC, METRICS, CHECKPOINTS = "config.yaml", "codec.json", "metrics.jsonl", "checkpoints"


class DataConfig(Config):
    """What is learnt from, and what is held out; see `everlong.data.open_corpus`."""

    sources: tuple[str, ...] = ()
    """Files, folders and globs; none: the standard library's own sources."""
    validation_fraction: float = 0.05
    """Share of the documents to hold out."""
    validation_sources: tuple[str, ...] = ()
    """Hold out exactly these instead."""

    def open(self, codec: Codec, cache: str | Path | None = None) -> Corpus:
        """Opens the corpus, which is built first if the cache does not hold it.

        Raises:
            DataError: a file cannot be read, or a split holds nothing.
        """
        named, fraction = self.validation_sources or None, self.validation_fraction
        return open_corpus(
            self.sources, codec=codec, validation_fraction=fraction, validation_sources=named, cache=cache
        )


class RunConfig(Config):
    """Everything that a run follows from."""

    model: LanguageModel.Config
    codec: str
    """Fingerprint of the codec."""
    data: DataConfig
    training: Trainer.Config


@dataclass(frozen=True, eq=False)
class Run:
    """A trained model, and where it came from."""

    path: Path
    config: RunConfig
    codec: Codec
    model: LanguageModel
    """In evaluation mode."""
    step: int
    """Updates after which it was saved."""
    damaged: tuple[int, ...]
    """Steps of newer checkpoints that are damaged, and were passed over."""

    @cached_property
    def fingerprint(self) -> str:
        """See `model_fingerprint`."""
        return model_fingerprint(self.model, self.codec)


def load_run(path: str | Path, step: int | None = None, device: torch.device | str = "cpu") -> Run:
    """Loads the model of a run.

    Args:
        step: which checkpoint; `None`: the newest that is whole.

    Raises:
        CheckpointError: there is no such run, it has no checkpoint yet, or none is whole.
    """
    path = Path(path).expanduser()
    config, codec = read_run(path)
    opened = Checkpoints(path / CHECKPOINTS, config, config.training.keep).open(step)
    if opened is None:
        raise CheckpointError("run", str(path), "has no checkpoint yet: train it first, with `everlong train`")
    model = config.model.build()
    read_weights(opened.path, model)
    return Run(path, config, codec, model.to(device).eval(), opened.step, opened.damaged)


def read_run(path: Path) -> tuple[RunConfig, Codec]:
    """Configuration and codec of a run.

    Raises:
        CheckpointError: there is no such run, or it is damaged.
        ConfigError: its configuration names parts or fields that this version does not know.
    """
    if not (path / CONFIG).is_file():
        there = "has no config.yaml" if path.is_dir() else "does not exist"
        raise CheckpointError("run", str(path), f"{there}: name a folder that `everlong train` made")
    try:
        plain = read_yaml(path / CONFIG)
        plain_codec = json.loads((path / CODEC).read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise CheckpointError("run", str(path), f"is damaged: {CONFIG} or {CODEC} cannot be read ({error})") from error
    config = everlong.config_from_dict(plain) if isinstance(plain, dict) else None
    codec = codec_from_config(plain_codec) if isinstance(plain_codec, dict) else None
    if not isinstance(config, RunConfig):
        raise CheckpointError("run", str(path), f"is damaged: {CONFIG} holds no run's configuration")
    if codec is None or codec.fingerprint() != config.codec:
        raise CheckpointError("run", str(path), f"is damaged: {CODEC} is not the codec that {CONFIG} names")
    return config, codec


def check_run(path: Path, config: RunConfig) -> None:
    """Makes sure that a folder holds no other run.

    Raises:
        ConfigError: it does; the fields that differ are named.
        CheckpointError: its run is damaged.
    """
    if (path / CONFIG).exists():
        check_same(read_run(path)[0].to_dict(), config.to_dict(), path, ConfigError)


def make_run(path: Path, config: RunConfig, codec: Codec) -> None:
    """Makes the folder of a run, if there is none; its configuration is written last, and atomically.

    Raises:
        ConfigError: the folder cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        if not (path / CONFIG).exists():
            (path / CODEC).write_text(json.dumps(codec.to_config()), encoding="utf-8")
            write_yaml(config.to_dict(), path / CONFIG)
    except OSError as error:
        raise ConfigError("folder", str(path), f"cannot be written ({error.strerror}): name another") from error


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keeps other trainers out of a run's folder, until the context ends or the process dies.

    Raises:
        ConfigError: another trainer is at work there.
    """
    handle = os.open(path, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            remedy = "is being trained in by another process: wait for it, or stop it"
            raise ConfigError("folder", str(path), remedy) from error
        yield
    finally:
        os.close(handle)
