"""Killed anywhere, a run goes on to the very weights that it would have had, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from everlong.train import read_records

Ask = Callable[..., dict[str, Any]]
FAST, SLOW = 2, 20
"""Kills of each sort in the normal and in the slow run."""


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """A folder with a corpus."""
    home = tmp_path_factory.mktemp("faults")
    (home / "data").mkdir()
    letters = np.random.default_rng(0)
    for i in range(6):
        (home / "data" / str(i)).write_bytes(letters.integers(97, 105, size=400, dtype=np.uint8).tobytes())
    return home


@pytest.fixture(scope="module")
def ask(home) -> Iterator[Ask]:
    """Asks the process of `faults.py`, one for all tests of this file."""
    command = [sys.executable, str(Path(__file__).with_name("faults.py"))]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}  # a fork of one thread is whole
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
    requests, answers = process.stdin, process.stdout
    assert requests is not None
    assert answers is not None

    def ask(run: str, folder: Path, **request: Any) -> dict[str, Any]:
        requests.write(json.dumps({"run": run, "folder": str(folder), "home": str(home), **request}) + "\n")
        requests.flush()
        return json.loads(answers.readline())

    yield ask
    requests.close()
    answers.close()
    process.wait(timeout=60)


@pytest.fixture(scope="module")
def undisturbed(home, ask) -> Callable[[str], tuple[Path, dict[str, Any]]]:
    """The folder of a run that nothing happened to, and the answer about it."""
    done: dict[str, tuple[Path, dict[str, Any]]] = {}

    def run(name: str) -> tuple[Path, dict[str, Any]]:
        if name not in done:
            ask(name, home / "warm", signal_at_step=1, signal=signal.SIGTERM)  # builds the corpus
            shutil.rmtree(home / "warm")
            done[name] = home / name, ask(name, home / name)
            assert done[name][1]["exit"] == 0
        return done[name]

    return run


def hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of the files of tensors in the last checkpoint: weights, optimizer, random states, streams."""
    last = max((folder / "checkpoints").glob("step-*"))
    files = json.loads((last / "manifest.json").read_text())["files"]
    return {f"{last.name}/{name}": told["sha256"] for name, told in files.items() if name.endswith(".safetensors")}


def losses(folder: Path) -> list[tuple[Any, ...]]:
    keys = ("kind", "step", "bits_per_byte", "bytes_seen", "gradient_norm")
    return [tuple(record.get(key) for key in keys) for record in read_records(folder / "metrics.jsonl")]


def goes_on(ask: Ask, name: str, folder: Path, reference: Path) -> None:
    """Whatever happened in `folder`, the run in it now ends as the undisturbed one did."""
    assert ask(name, folder)["exit"] == 0
    assert hashes(folder) == hashes(reference)
    assert losses(folder) == losses(reference)
    assert sorted(path.name for path in folder.rglob("*")) == sorted(path.name for path in reference.rglob("*"))


@pytest.mark.parametrize(
    "kills", [pytest.param(FAST, id="a tenth"), pytest.param(SLOW, id="all", marks=pytest.mark.slow)]
)
def test_killed_inside_a_checkpoint_write(kills, ask, home, undisturbed):
    choose = random.Random(kills)
    for i in range(kills):
        name = ("carried", "shuffled")[i % 2]
        reference, told = undisturbed(name)
        folder, write = home / f"write-{kills}-{i}", choose.randint(1, told["writes"])
        assert ask(name, folder, kill_at_write=write)["exit"] == -signal.SIGKILL
        goes_on(ask, name, folder, reference)


@pytest.mark.parametrize(
    "kills", [pytest.param(FAST, id="a tenth"), pytest.param(SLOW, id="all", marks=pytest.mark.slow)]
)
def test_killed_at_a_random_time(kills, ask, home, undisturbed):
    choose, killed, attempt = random.Random(kills), 0, 0
    while killed < kills:  # a run that ended before its time came does not count
        name, attempt = ("shuffled", "carried")[attempt % 2], attempt + 1
        reference, told = undisturbed(name)
        folder = home / f"time-{kills}-{attempt}"
        killed += ask(name, folder, kill_after=choose.uniform(0, told["seconds"]))["exit"] == -signal.SIGKILL
        goes_on(ask, name, folder, reference)


@pytest.mark.slow
def test_killed_at_every_step_of_writing(ask, home, undisturbed):
    reference, told = undisturbed("carried")
    for write in range(1, told["writes"] + 1):
        folder = home / f"every-{write}"
        assert ask("carried", folder, kill_at_write=write)["exit"] == -signal.SIGKILL
        goes_on(ask, "carried", folder, reference)


def test_killed_again_and_again(ask, home, undisturbed):
    reference, told = undisturbed("carried")
    folder = home / "again"
    for write in (told["writes"] // 4, 2, told["writes"] // 3, 5):
        assert ask("carried", folder, kill_at_write=write)["exit"] == -signal.SIGKILL
    goes_on(ask, "carried", folder, reference)


@pytest.mark.parametrize(("name", "number"), [("shuffled", signal.SIGTERM), ("carried", signal.SIGINT)])
def test_asked_to_stop_it_saves_and_leaves(name, number, ask, home, undisturbed):
    folder = home / f"asked-{name}"
    told = ask(name, folder, signal_at_step=5, signal=number)
    assert (told["exit"], told["step"]) == (128 + number, 5)  # between checkpoints and between records
    assert (folder / "checkpoints" / "step-000000005").is_dir()
    assert told["seconds"] < 10
    goes_on(ask, name, folder, undisturbed(name)[0])
