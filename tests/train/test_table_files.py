"""Tables in checkpoints: what changed is written, the rest is linked, and a run goes on bit for bit."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import everlong
from everlong.core.errors import CheckpointError
from everlong.memory.storage import is_mapped, on_disk
from everlong.memory.table import Table
from everlong.train import (
    AdamW,
    Callback,
    Checkpoints,
    DataConfig,
    Step,
    Trainer,
    load_run,
    model_fingerprint,
    session,
    table_files,
    train,
)
from everlong.train.ahead import Ahead
from everlong.train.row_adam import RowAdam
from everlong.train.row_optimizer import RowOptimizer
from everlong.train.rowwise_adagrad import RowwiseAdagrad
from everlong.train.table_files import read_tables, write_tables

OPTIMIZERS = [RowwiseAdagrad.Config(), RowAdam.Config()]


class Two(nn.Module):
    """Two tables."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = Table(100, 3), Table(50, 2)


def pair(config: RowOptimizer.Config = OPTIMIZERS[0]) -> tuple[Two, RowOptimizer]:
    model = Two()
    return model, config.build([{"params": [model.one.rows, model.other.rows], "lr": 0.1}])


def learn(model: Two, optimizer: RowOptimizer, one: list[int], other: list[int]) -> None:
    loss = model.one(torch.tensor(one)).sum() + model.other(torch.tensor(other, dtype=torch.int64)).sum()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()


def everything(model: Two, optimizer: RowOptimizer) -> dict[str, Tensor]:
    return {
        f"{name} {kind}": tensor
        for name, table in (("one", model.one.rows), ("other", model.other.rows))
        for kind, tensor in {"rows": table, **optimizer.remember(table)}.items()
    }


def save(folder: Path, model: Two, optimizer: RowOptimizer, previous: Path | None) -> Path:
    folder.mkdir()
    write_tables(folder, model, optimizer, previous)
    optimizer.saved()
    return folder


@pytest.mark.parametrize("config", OPTIMIZERS)
def test_a_chain_of_checkpoints_holds_what_each_saw(config: RowOptimizer.Config, tmp_path: Path) -> None:
    model, optimizer = pair(config)
    generator = torch.Generator().manual_seed(0)
    folder, seen = None, []
    for step in range(12):
        learn(model, optimizer, *(torch.randint(n, (3,), generator=generator).tolist() for n in (100, 50)))
        folder = save(tmp_path / str(step), model, optimizer, folder)
        seen.append({name: tensor.detach().clone() for name, tensor in everything(model, optimizer).items()})
    for step, expected in enumerate(seen):
        fresh = pair(config)
        learn(*fresh, [5, 6, 79], [1])  # what it knew is to be forgotten
        read_tables(tmp_path / str(step), fresh[0], fresh[1])
        found = everything(*fresh)
        assert all(torch.equal(found[name], expected[name]) for name in expected), step


def test_only_what_changed_is_written_and_the_rest_linked(tmp_path: Path) -> None:
    model, optimizer = pair()
    learn(model, optimizer, list(range(90)), [3])
    first = save(tmp_path / "1", model, optimizer, None)
    learn(model, optimizer, [7, 8], [])
    second = save(tmp_path / "2", model, optimizer, first)
    assert [path.name for path in sorted(second.iterdir())] == [
        "tables-000001-all.safetensors",
        "tables-000002-all.safetensors",
        "tables-000003-new.safetensors",
    ]
    assert all(os.path.samefile(first / path.name, second / path.name) for path in first.iterdir())
    written = load_file(second / "tables-000003-new.safetensors")
    assert written["at:one.rows"].tolist() == [7, 8]
    assert sorted(written) == ["at:one.rows", "rows:one.rows", "sum:one.rows"]
    shutil.rmtree(first)  # each stands by itself
    fresh = pair()
    read_tables(second, *fresh)
    assert torch.equal(fresh[0].one.rows, model.one.rows)


def test_begins_anew_when_the_changes_are_larger_than_the_whole(tmp_path: Path) -> None:
    model, optimizer = pair()
    folder, kinds = None, []
    for step in range(6):
        learn(model, optimizer, list(range(90)), [])
        folder = save(tmp_path / str(step), model, optimizer, folder)
        kinds.append([path.stem.split("-")[1:] for path in sorted(folder.iterdir())])
    assert kinds[:3] == [[["000001", "all"]], [["000001", "all"], ["000002", "new"]], [["000003", "all"]]]
    assert max(map(len, kinds)) == 2


def test_a_checkpoint_that_failed_leaves_its_rows_to_the_next(tmp_path: Path) -> None:
    model, optimizer = pair()
    learn(model, optimizer, list(range(90)), [3])
    first = save(tmp_path / "1", model, optimizer, None)
    learn(model, optimizer, [7], [])
    (tmp_path / "failed").mkdir()
    write_tables(tmp_path / "failed", model, optimizer, first)  # and `saved` is not called
    learn(model, optimizer, [8], [])
    second = save(tmp_path / "2", model, optimizer, first)
    assert load_file(second / "tables-000003-new.safetensors")["at:one.rows"].tolist() == [7, 8]


def test_large_tables_are_saved_piece_by_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_files, "ROWS", 20)
    model, optimizer = pair()
    learn(model, optimizer, list(range(0, 100, 3)), [])
    folder = save(tmp_path / "1", model, optimizer, None)
    assert len(list(folder.iterdir())) == 5
    fresh = pair()
    read_tables(folder, *fresh)
    assert torch.equal(fresh[0].one.rows, model.one.rows)


def test_without_hard_links_it_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    model, optimizer = pair()
    learn(model, optimizer, list(range(90)), [3])
    first = save(tmp_path / "1", model, optimizer, None)
    learn(model, optimizer, [7], [])
    second = save(tmp_path / "2", model, optimizer, first)
    assert len(list(second.iterdir())) == 3


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"rows:one.rows": torch.zeros(1, 4)}, r"rows:one.rows = 'row 3, torch.float32 \[4\]'"),
        ({"rows:one.rows": torch.zeros(1, 3).double()}, "float64"),
        ({"rows:one.rows": torch.zeros(2, 3)}, "row 3"),
        ({"at:one.rows": torch.tensor([100])}, "row 100"),
        ({"at:one.rows": None, "at:third": torch.tensor([3])}, "'third': is in the checkpoint only"),
        ({"sum:one.rows": None}, "sum:one.rows': is not in the checkpoint"),
    ],
)
def test_tables_of_another_model_are_refused(change: dict[str, Any], told: str, tmp_path: Path) -> None:
    good = {"at:one.rows": torch.tensor([3]), "rows:one.rows": torch.ones(1, 3), "sum:one.rows": torch.ones(1)}
    changed = {name: tensor for name, tensor in {**good, **change}.items() if tensor is not None}
    save_file(changed, tmp_path / "tables-000001-all.safetensors")
    with pytest.raises(CheckpointError, match=told):
        read_tables(tmp_path, *pair())


@pytest.fixture(autouse=True)
def no_roofline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "matmul_rate", lambda *_: 1e9)


def engram_run(folder: Path, tmp_path: Path, optimizer: RowOptimizer.Config, steps: int, **named: Any) -> str:
    """Trains an Engram, and tells its fingerprint."""
    model = everlong.config("engram:nano", layers=2, width=16, heads=2, rows=300, row_width=4)
    training = Trainer.Config(
        steps=steps,
        window=16,
        batch=4,
        checkpoint_every=2,
        evaluate_every=None,
        optimizer=AdamW.Config(tables=optimizer),
    )
    for name, letters in (("text", range(97, 117)), ("held out", range(100, 120))):
        (tmp_path / name).write_bytes(bytes(letters) * 60)
    data = DataConfig(sources=(str(tmp_path / "text"),), validation_sources=(str(tmp_path / "held out"),))
    train(model, training, folder=folder, data=data, cache=tmp_path / "cache", **named)
    return model_fingerprint((run := load_run(folder)).model, run.codec)


class CrashError(Exception):
    pass


class CrashesAt(Callback):
    """Dies after some updates."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step(self, step: Step) -> None:
        if step.step == self.step:
            raise CrashError


@pytest.mark.parametrize("config", OPTIMIZERS)
def test_a_run_with_tables_on_disk_is_that_in_memory_and_goes_on_bit_for_bit(
    config: RowOptimizer.Config, tmp_path: Path
) -> None:
    expected = engram_run(tmp_path / "memory", tmp_path, config, 5)
    disk = {"tables": tmp_path / "tables"}
    assert engram_run(tmp_path / "disk", tmp_path, config, 5, **disk) == expected
    with pytest.raises(CrashError):  # one update after the first checkpoint
        engram_run(tmp_path / "stopped", tmp_path, config, 5, callbacks=[CrashesAt(3)], **disk)
    assert engram_run(tmp_path / "stopped", tmp_path, config, 5, **disk) == expected
    assert list((tmp_path / "tables").iterdir()) == []
    with on_disk(tmp_path / "served"):
        run = load_run(tmp_path / "memory")
    assert is_mapped(run.model.body.blocks[1].inner.table.rows)
    assert run.fingerprint == expected


def test_looking_ahead_changes_no_batch_and_no_place(load: Any, settings: Any) -> None:
    config = settings(carry=True)
    plain, seen = load(config), []
    ahead = Ahead(load(config), seen.append)
    for _ in range(5):
        assert ahead.state_dict() == plain.state_dict()
        one, other = next(ahead), next(plain)
        assert torch.equal(one.ids_BT, other.ids_BT)
    place, following = ahead.state_dict(), next(ahead)
    assert torch.equal(seen[-2].ids_BT, following.ids_BT)  # shown before it was given out
    ahead.load_state_dict(place)
    assert torch.equal(next(ahead).ids_BT, following.ids_BT)


def test_links_are_not_read_again(tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is in the checkpoint before too is hashed once."""
    from everlong.train import checkpoints

    read: list[str] = []
    described = checkpoints._described
    monkeypatch.setattr(checkpoints, "_described", lambda path: read.append(path.name) or described(path))
    kept = Checkpoints(tmp_path, settings(), keep=2)
    kept.save(1, lambda folder: (folder / "large").write_bytes(b"rows") and None)
    kept.save(2, lambda folder: os.link(kept.path(1) / "large", folder / "large"))
    assert read.count("large") == 1
    checkpoints.verify(kept.path(2))
    assert read.count("large") == 2  # but always when it is to be used
