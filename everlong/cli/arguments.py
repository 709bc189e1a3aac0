"""What verbs have in common: how arguments are read, and what is checked before any work is done."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro
import yaml

import everlong
from everlong.core.config import config_from_dict
from everlong.core.errors import ConfigError, DataError
from everlong.model.language_model import LanguageModel
from everlong.train import Run, load_run
from everlong.train.precision import default_device

Model = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="PRESET|RUN")]
Preset = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="PRESET")]
RunPath = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
InputFile = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]
OutputFile = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
Sources = Annotated[tuple[str, ...], tyro.conf.arg(metavar="PATH ...")]
Overrides = Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUE ...")]


def configured(preset: str, overrides: Sequence[str], **defaults: Any) -> LanguageModel.Config:
    """A preset's configuration with `NAME=VALUE` overrides.

    Args:
        defaults: overrides that those of the user come before.

    Raises:
        ConfigError: an unknown preset or name, or a value that does not fit.
    """
    changes = defaults | dict(_override(text) for text in overrides)
    try:
        config = everlong.config(preset, **changes)
    except TypeError as error:
        remedy = f"has a value of the wrong type ({error}): give whole numbers, as in width=64"
        raise ConfigError("override", " ".join(overrides), remedy) from error
    return config_from_dict(config.to_dict())  # which looks at every field's type


def load(run: Path) -> Run:
    """The newest checkpoint of a run, on the GPU if there is one. Raises `CheckpointError` as `load_run` does."""
    return load_run(run, device=default_device())


def check_new(*outputs: Path | None, force: bool) -> None:
    """Makes sure that outputs can be written and that none is lost by it.

    Raises:
        DataError: a file exists already and `force` is not given, or its folder does not exist.
    """
    for path in (path for path in outputs if path is not None):
        if path.is_dir():
            raise DataError("output", str(path), "is a folder: name a file")
        if path.exists() and not force:
            raise DataError("output", str(path), "exists already: name another file, or replace it with --force")
        if not path.absolute().parent.is_dir():
            raise DataError("output", str(path), f"has no folder: make {path.absolute().parent} first")


def read(path: Path) -> bytes:
    """The content of a file.

    Raises:
        DataError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        remedy = f"cannot be read ({error.strerror}): check that it is a file and that you may read it"
        raise DataError("file", str(path), remedy) from error


def file_size(path: Path) -> int:
    """Bytes of a file.

    Raises:
        DataError: it cannot be seen.
    """
    try:
        return path.stat().st_size
    except OSError as error:
        raise DataError("file", str(path), f"cannot be read ({error.strerror}): check the path") from error


def _override(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise ConfigError("override", text, "must be NAME=VALUE, as in width=64")
    try:
        return name, yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigError("override", text, "has a value that cannot be read: give a number, as in width=64") from error
