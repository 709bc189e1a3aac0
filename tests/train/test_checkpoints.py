"""Checkpoints are whole or absent, and what has changed since it was written is found before it is used."""

from __future__ import annotations

import json
import logging
import os
import resource
import shutil
from collections import namedtuple
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from everlong.core.errors import CheckpointError
from everlong.train import Checkpoints, Trainer
from everlong.train.checkpoints import verify
from everlong.train.plain import read_yaml

FILES = [
    "config.yaml",
    "manifest.json",
    "model.safetensors",
    "optimizer.safetensors",
    "streams.safetensors",
    "trainer.json",
]


@pytest.fixture(scope="module")
def config(settings) -> Trainer.Config:
    return settings(steps=4, carry=True)


@pytest.fixture(scope="module")
def trainer(config, small, load):
    """Makes a trainer that saves in a folder."""

    def make(folder: Path) -> Trainer:
        torch.manual_seed(0)
        return Trainer(config, small("linear"), load(config), checkpoints=Checkpoints(folder, config, config.keep))

    return make


@pytest.fixture(scope="module")
def written(trainer, tmp_path_factory) -> Path:
    """Checkpoints of steps 2 and 4, not to be changed."""
    folder = tmp_path_factory.mktemp("checkpoints")
    trainer(folder).run()
    return folder


@pytest.fixture
def folder(written, tmp_path) -> Path:
    """A copy of them."""
    return shutil.copytree(written, tmp_path / "checkpoints")


def opened(folder: Path, config) -> tuple[int, tuple[int, ...]]:
    found = Checkpoints(folder, config, keep=2).open()
    assert found is not None
    return found.step, found.damaged


def test_everything_is_there(written, config):
    assert sorted(path.name for path in written.iterdir()) == ["step-000000002", "step-000000004"]
    assert sorted(path.name for path in (written / "step-000000004").iterdir()) == FILES
    assert opened(written, config) == (4, ())


@pytest.mark.parametrize("name", FILES)
@given(data=st.data())
def test_a_flipped_bit_is_found(name, written, data):
    path = written / "step-000000004" / name
    whole = path.read_bytes()
    bit = data.draw(st.integers(0, 8 * len(whole) - 1))
    flipped = bytearray(whole)
    flipped[bit // 8] ^= 1 << bit % 8
    try:
        path.write_bytes(flipped)
        with pytest.raises(CheckpointError, match=name if name != "manifest.json" else "step-000000004"):
            verify(path.parent)
    finally:
        path.write_bytes(whole)
    verify(path.parent)


@pytest.mark.parametrize("damage", ["half", "empty", "longer", "missing", "swapped", "added", "folder"])
@pytest.mark.parametrize("name", FILES)
def test_damage_is_named_and_the_checkpoint_before_is_used(name, damage, folder, config, caplog):
    path = folder / "step-000000004" / name
    whole = path.read_bytes()
    match damage:
        case "half":
            path.write_bytes(whole[: len(whole) // 2])
        case "empty":
            path.write_bytes(b"")
        case "longer":
            path.write_bytes(whole + b" ")
        case "missing":
            path.unlink()
        case "swapped":
            path.write_bytes((folder / "step-000000004" / FILES[FILES.index(name) - 1]).read_bytes())
        case "added":
            path.with_name(f"{name}.bak").write_bytes(whole)
        case "folder":
            path.unlink()
            path.mkdir()
    with caplog.at_level(logging.WARNING):
        assert opened(folder, config) == (2, (4,))
    assert "step-000000004" in caplog.text
    assert name in caplog.text


def test_if_none_is_whole_all_are_named(folder, config):
    for step in (2, 4):
        (folder / f"step-{step:09d}" / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"step-000000004.*step-000000002"):
        Checkpoints(folder, config, keep=2).open()


def test_a_chosen_checkpoint_is_not_replaced_by_another(folder, config):
    checkpoints = Checkpoints(folder, config, keep=2)
    found = checkpoints.open(2)
    assert found is not None
    assert found.step == 2
    (folder / "step-000000002" / "trainer.json").write_bytes(b"{}")
    for step in (2, 3):
        with pytest.raises(CheckpointError):
            checkpoints.open(step)


def test_another_version_is_said_to_be_one(folder):
    path = folder / "step-000000004" / "manifest.json"
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps({**manifest, "format": 999}))
    with pytest.raises(CheckpointError, match="format 999"):
        verify(path.parent)


def test_deeply_nested_json_is_damage_and_nothing_worse(folder):
    (folder / "step-000000004" / "manifest.json").write_text("[" * 100_000)
    with pytest.raises(CheckpointError):
        verify(folder / "step-000000004")


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        ({"seed": 7}, ["seed"]),
        ({"clip": 0.5, "keep": 3}, ["clip", "keep"]),
        ({"steps": 8, "seed": 1}, ["steps", "seed"]),
    ],
)
def test_another_configuration_is_refused_by_field(changes, fields, folder, config):
    with pytest.raises(CheckpointError) as caught:
        Checkpoints(folder, config.replace(**changes), keep=2).open()
    assert caught.value.field == fields[0]
    assert caught.value.value == changes[fields[0]]
    assert all(field in str(caught.value) for field in fields)


def test_fields_that_are_newer_than_a_checkpoint_have_their_defaults(folder, config, monkeypatch):
    def older(path):
        return {name: value for name, value in read_yaml(path).items() if name != "clip"}

    monkeypatch.setattr("everlong.train.checkpoints.read_yaml", older)
    assert opened(folder, config) == (4, ())
    with pytest.raises(CheckpointError, match=r"clip = 0\.5"):
        opened(folder, config.replace(clip=0.5))


def test_the_newest_are_kept(folder, config):
    def fill(work: Path) -> None:
        (work / "some").write_text("thing")

    checkpoints = Checkpoints(folder, config, keep=3)
    for step in (6, 8):
        checkpoints.save(step, fill)
    assert checkpoints.steps() == [4, 6, 8]
    assert sorted(path.name for path in folder.iterdir()) == [f"step-{step:09d}" for step in (4, 6, 8)]


def test_everything_is_on_the_disk_before_it_has_its_name(folder, config, monkeypatch):
    """Killing a process loses nothing that was written; a power cut does. So the order is what can be tested."""
    events: list[str] = []
    sync, rename = os.fsync, Path.rename
    monkeypatch.setattr(os, "fsync", lambda handle: events.append(name_of(handle)) or sync(handle))
    monkeypatch.setattr(Path, "rename", lambda self, to: events.append(f"-> {Path(to).name}") or rename(self, to))

    def name_of(handle: int) -> str:
        return next(path.name for path in [folder, *folder.rglob("*")] if path.stat().st_ino == os.fstat(handle).st_ino)

    def fill(work: Path) -> None:
        for name in ("one", "two"):
            (work / name).write_text(name)

    Checkpoints(folder, config, keep=9).save(6, fill)
    inside = ["config.yaml", "one", "two", "manifest.json", ".unfinished-step-000000006"]
    assert events == [*inside, "-> step-000000006", "checkpoints"]


def test_resuming_tidies_up(folder, trainer):
    """Orphans of a killed writer go; a damaged checkpoint is set aside, and the run saves that step again."""
    (folder / ".unfinished-step-000000006").mkdir()
    (folder / ".unfinished-step-000000006" / "model.safetensors").write_bytes(b"half")
    (folder / "step-000000004" / "model.safetensors").unlink()
    (folder / "damaged-step-000000004").mkdir()
    resumed = trainer(folder)
    resumed.resume()
    assert resumed.progress.step == 2
    resumed.run()
    names = ["damaged-step-000000004", "step-000000002", "step-000000004"]
    assert sorted(path.name for path in folder.iterdir()) == names
    assert not (folder / "damaged-step-000000004" / "model.safetensors").exists()


def test_tidying_lets_the_oldest_go_where_the_writer_was_killed_before_it(folder, config):
    checkpoints = Checkpoints(folder, config, keep=1)
    checkpoints.tidy()
    assert checkpoints.steps() == [4]


def test_going_on_is_exact(folder, written, trainer):
    shutil.rmtree(folder / "step-000000004")
    resumed = trainer(folder)
    torch.manual_seed(99)  # whatever else was drawn meanwhile
    resumed.resume()
    resumed.run()
    for name in ("model", "optimizer", "streams"):
        file = f"step-000000004/{name}.safetensors"
        assert (folder / file).read_bytes() == (written / file).read_bytes(), name


@contextmanager
def largest_file(size: int):
    """No file can grow beyond `size` bytes, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("size", [0, 2_000, 100_000], ids=["nothing", "no weights", "no optimizer"])
def test_a_full_disk_leaves_earlier_checkpoints_alone(size, folder, trainer):
    shutil.rmtree(folder / "step-000000004")
    kept = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert len((folder / "step-000000002" / "model.safetensors").read_bytes()) in range(2_000, 100_000)
    assert len((folder / "step-000000002" / "optimizer.safetensors").read_bytes()) > 100_000
    resumed = trainer(folder)
    resumed.resume()
    with largest_file(size), pytest.raises(CheckpointError, match="free space"):
        resumed.run()
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == kept
    resumed.run()  # once there is space
    assert (folder / "step-000000004").is_dir()


def test_too_little_space_is_said_before_any_work(trainer, tmp_path, monkeypatch):
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(free=1000))
    trained = trainer(tmp_path / "not" / "there")
    with pytest.raises(CheckpointError, match="1,000 bytes free"):
        trained.run()
    assert trained.progress.step == 0


def test_weights_of_another_shape_are_refused(folder, config, small, load):
    model = small("linear", width=32)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    other = Trainer(config, model, load(config), checkpoints=Checkpoints(folder, config, keep=2))
    with pytest.raises(CheckpointError, match="of another model"):
        other.resume()
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_tied_scalar_and_overlapping_tensors_survive(tmp_path):
    from everlong.train.weights import load_weights, weights

    class Odd(torch.nn.Module):
        def __init__(self, value: float) -> None:
            super().__init__()
            self.one = torch.nn.Linear(3, 3, bias=False)
            self.other = torch.nn.Linear(3, 3, bias=False)
            self.other.weight = self.one.weight
            self.scale = torch.nn.Parameter(torch.tensor(value))
            whole = torch.full((2, 4), value)
            self.register_buffer("left", whole[:, :2])
            self.register_buffer("right", whole[:, 1:])
            torch.nn.init.constant_(self.one.weight, value)

    save_file(weights(Odd(2.0)), tmp_path / "odd.safetensors")
    saved, model = load_file(tmp_path / "odd.safetensors"), Odd(1.0)
    assert sorted(saved) == ["left", "one.weight", "right", "scale"]
    load_weights(model, saved)
    assert all((tensor == 2).all() for tensor in model.state_dict().values())
    assert model.one.weight is model.other.weight
