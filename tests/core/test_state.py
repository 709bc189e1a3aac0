"""States: trees of tensors that can be mapped, measured, reordered, saved and loaded; damaged files are named."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from everlong.core import state as state_module
from everlong.core.errors import CheckpointError
from everlong.core.state import (
    State,
    detach,
    load_state,
    map_state,
    move,
    repeat_rows,
    save_state,
    select_rows,
    state_bytes,
    state_tensors,
)
from everlong.testing.compare import assert_states_near


class Leaf(State):
    """A state with an optional tensor."""

    a_BN: Tensor
    b_B: Tensor | None = None


class Branch(State):
    """A state of states."""

    leaves: Any
    other: Leaf | None


def example() -> Branch:
    first = Leaf(torch.arange(6.0).view(3, 2), torch.tensor([1, 2, 3]))
    return Branch((first, None, (Leaf(torch.ones(3, 0)),)), Leaf(torch.randn(3, 2, 2).bfloat16()))


def test_is_immutable() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        example().other.a_BN = torch.zeros(1)  # type: ignore[misc, union-attr]


def test_map_keeps_the_tree() -> None:
    doubled = map_state(lambda x: x * 2, example())
    assert torch.equal(doubled.leaves[0].a_BN, 2 * example().leaves[0].a_BN)
    assert doubled.leaves[1] is None
    assert doubled.leaves[2][0].b_B is None
    assert [x.shape for x in state_tensors(doubled)] == [(3, 2), (3,), (3, 0), (3, 2, 2)]
    assert map_state(lambda x: x, None) is None


def test_bytes_are_those_kept_alive() -> None:
    base = torch.zeros(100, 4)
    assert state_bytes(Leaf(base)) == 1600
    assert state_bytes(Leaf(base[:1])) == 1600  # a view pins all of it
    assert state_bytes((Leaf(base[:1]), Leaf(base[5:]))) == 1600  # counted once
    assert state_bytes((Leaf(base[:1].clone()), Leaf(base))) == 1616
    assert state_bytes((Leaf(torch.zeros(3, 0)), None)) == 0
    assert state_bytes(None) == 0


def test_detach_and_move() -> None:
    graph = Leaf(torch.ones(2, 2, requires_grad=True) * 2)
    assert graph.a_BN.requires_grad
    assert not detach(graph).a_BN.requires_grad
    assert move(graph, "meta").a_BN.device.type == "meta"


def test_rows() -> None:
    rows = torch.tensor([2, 0, 0, 1])
    chosen = select_rows(example(), rows)
    assert torch.equal(chosen.leaves[0].a_BN, example().leaves[0].a_BN[rows])
    assert torch.equal(chosen.leaves[0].b_B, torch.tensor([3, 1, 1, 2]))
    repeated = repeat_rows(example(), 2)
    assert repeated.leaves[0].b_B.tolist() == [1, 1, 2, 2, 3, 3]
    assert repeated.other is not None
    assert repeated.other.a_BN.shape == (6, 2, 2)


def test_a_fork_shares_nothing() -> None:
    """Writing into one row of a fork, as a test may, does not reach another."""
    start = Leaf(torch.zeros(1, 2))
    fork = repeat_rows(start, 2)
    fork.a_BN[0] = 1
    assert fork.a_BN[1].eq(0).all()
    assert start.a_BN.eq(0).all()


class TestFile:
    """`save_state` and `load_state`."""

    def test_round_trip(self, tmp_path: Path) -> None:
        shared, turned = torch.randn(3, 4, requires_grad=True), torch.randn(4, 3).T
        for state in (example(), None, (), (shared, shared), Leaf(turned), (Leaf(shared), torch.tensor([True]))):
            save_state(state, tmp_path / "state")
            assert_states_near(load_state(tmp_path / "state"), map_state(Tensor.detach, state), 0.0)

    def test_replaces_the_file_only_when_complete(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = tmp_path / "state"
        save_state(example(), path)

        def no_space(tensors: Any, filename: Path, metadata: Any) -> None:
            Path(filename).write_bytes(b"half")
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(state_module, "save_file", no_space)
        with pytest.raises(CheckpointError, match="No space left"):
            save_state(None, path)
        assert_states_near(load_state(path), load_state(path), 0.0)
        assert isinstance(load_state(path), Branch)
        assert [p.name for p in tmp_path.iterdir()] == ["state"]  # nothing half written stays

    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(CheckpointError, match="absent"):
            load_state(tmp_path / "absent")

    @pytest.mark.parametrize("content", [b"", b"\0", b"not a state file at all" * 9, b"\xff" * 64])
    def test_another_file(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "state").write_bytes(content)
        with pytest.raises(CheckpointError, match="state"):
            load_state(tmp_path / "state")

    def test_truncated_anywhere(self, tmp_path: Path) -> None:
        path = tmp_path / "state"
        save_state(example(), path)
        content = path.read_bytes()
        for size in range(0, len(content), 7):
            path.write_bytes(content[:size])
            with pytest.raises(CheckpointError):
                load_state(path)

    def test_damaged_header(self, tmp_path: Path) -> None:
        """Whatever byte of the header is damaged: it loads, or it is named; nothing else is raised."""
        path = tmp_path / "state"
        save_state(example(), path)
        content = path.read_bytes()
        header = 8 + int.from_bytes(content[:8], "little")
        refused = 0
        for place in range(header):
            for change in (1, 32):
                path.write_bytes(content[:place] + bytes([content[place] ^ change]) + content[place + 1 :])
                try:
                    load_state(path)
                except CheckpointError:
                    refused += 1
        assert refused > header

    @pytest.mark.parametrize("tree", [5, "x", [1], {"state": "Unknown", "fields": {}}, {"state": "Leaf", "fields": {}}])
    def test_another_tree(self, tmp_path: Path, tree: Any) -> None:
        state_module.save_file({}, tmp_path / "state", metadata={"tree": json.dumps(tree)})
        with pytest.raises(CheckpointError):
            load_state(tmp_path / "state")
