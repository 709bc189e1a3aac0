"""One tiny run for all tests of the command line, trained through the command line."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from everlong.cli import main

LENGTH = ["--steps", "10", "--window", "32", "--batch", "4"]
TRAINING = [*LENGTH, "--log-every", "5", "--evaluate-every", "5", "--evaluate-windows", "4"]
MODEL = ["window:nano", "--override", "layers=1", "width=32", "heads=2", "window=16"]
SPLIT = ["--validation-fraction", "0.4"]


@dataclass(frozen=True)
class Outcome:
    """What a command line did."""

    code: int
    out: str
    err: str


Everlong = Callable[..., Outcome]


@pytest.fixture
def everlong(capsys) -> Everlong:
    """Runs `everlong ARGUMENTS ...` in this process."""

    def run(*arguments: object) -> Outcome:
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as end:  # tyro's own: help, and arguments that do not fit
            code = int(end.code or 0)
        return Outcome(code, *capsys.readouterr())

    return run


@pytest.fixture(scope="session", autouse=True)
def home(tmp_path_factory):
    """Keeps the corpus out of the user's own cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.delenv("EVERLONG_DEBUG", raising=False)
        yield


@pytest.fixture(scope="session")
def sources(tmp_path_factory) -> Path:
    """Twelve small files."""
    folder: Path = tmp_path_factory.mktemp("sources")
    for i in range(12):
        (folder / f"{i}.py").write_text(f"def f{i}(x):\n    return x + {i}\n" * (i + 3))
    return folder


@pytest.fixture(scope="session")
def trained(tmp_path_factory, sources, home) -> Path:
    """The folder of a run; not to be changed."""
    folder: Path = tmp_path_factory.mktemp("runs") / "tiny"
    assert main(["train", *MODEL, *TRAINING, *SPLIT, "--data", str(sources), "--out", str(folder)]) == 0
    return folder


@pytest.fixture(scope="session")
def other(tmp_path_factory, sources, home) -> Path:
    """A run whose weights are others."""
    folder: Path = tmp_path_factory.mktemp("runs") / "other"
    arguments = [*MODEL, *TRAINING, *SPLIT, "--data", str(sources), "--out", str(folder), "--seed", "1"]
    assert main(["train", *arguments]) == 0
    return folder


@pytest.fixture
def copied(trained, tmp_path) -> Path:
    """A copy of the run, which a test may damage."""
    return Path(shutil.copytree(trained, tmp_path / "copied"))
