"""What the tests of the lab share: a study of the smallest models on a few files, and its cells run in this process."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from everlong.lab import Architecture, EqualFlops, HeldOut, Plan, Study, TrainingBytes, make_plan
from everlong.lab.cell import run_cell
from everlong.lab.grid import Watch, run_grid
from everlong.train import DataConfig, Trainer

Make = Callable[..., Study]


@pytest.fixture(scope="session", autouse=True)
def home(tmp_path_factory):
    """Keeps corpora out of the user's own cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def sources(tmp_path_factory) -> Path:
    """Forty small files, each its own."""
    folder: Path = tmp_path_factory.mktemp("sources")
    random = np.random.default_rng(0)
    for i in range(40):
        letters = bytes(random.integers(97, 101, size=60 + 7 * i, dtype=np.uint8))
        (folder / f"{i}.txt").write_bytes(letters)
    return folder


@pytest.fixture(scope="session")
def make(sources) -> Make:
    """Makes the study, with some fields changed."""

    def made(**changes: Any) -> Study:
        small = {"layers": 1, "width": 16, "heads": 1}
        training = Trainer.Config(
            steps=1, window=16, batch=4, precision="float32", log_every=1, evaluate_every=2, checkpoint_every=2, keep=1
        )  # fmt: skip
        fields: dict[str, Any] = {
            "name": "tiny",
            "architectures": (
                Architecture(name="linear", preset="linear:nano", overrides=small),
                Architecture(name="window", preset="window:nano", overrides={"window": 4}),
            ),
            "matching": (EqualFlops(tolerance=0.05),),
            "budget": TrainingBytes(bytes=6 * 64),
            "learning_rates": (0.003, 0.01),
            "seeds": (0, 1, 2),
            "training": training,
            "data": DataConfig(sources=(str(sources),), validation_fraction=0.4),
            "held_out": HeldOut(bytes=800, document_bytes=100),
        }
        return Study(**{**fields, **changes})

    return made


@pytest.fixture(scope="session")
def study(make) -> Study:
    return make()


@pytest.fixture(scope="session")
def plan(study) -> Plan:
    return make_plan(study, threads=1)


class Silent(Watch):
    """Notes what it hears."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str]] = []
        self.names: list[list[str]] = []

    def planned(self, jobs) -> None:
        self.names.append([job.name for job in jobs])

    def ended(self, job, state, error) -> None:
        self.heard.append((job.name, state))


class InProcess:
    """Runs a plan's cells one after the other, without processes of their own."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        from everlong.lab import grid

        self.ran: list[str] = []

        def run(runner, jobs, at_once):
            for job in jobs:
                self.ran.append(job.name)
                run_cell(runner.cells / job.name, job.cell)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(grid.Runner, "run", run)
            patch.setattr("everlong.train.session.matmul_rate", lambda *_: 1e9)  # which takes longer than the training
            run_grid(plan, folder, Silent(), threads=1)


@pytest.fixture(scope="session")
def finished(plan, tmp_path_factory) -> Path:
    """The folder of the finished study; not to be changed."""
    folder: Path = tmp_path_factory.mktemp("study")
    InProcess(plan, folder)
    return folder


@pytest.fixture
def copied(finished, tmp_path) -> Path:
    """A copy of the finished study, which a test may damage."""
    return Path(shutil.copytree(finished, tmp_path / "study"))
