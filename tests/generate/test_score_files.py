"""Scores on disk: complete or absent, and the same numbers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from everlong.core.errors import DataError
from everlong.data import ByteCodec
from everlong.generate import SURPRISAL, score, write_jsonl, write_npy
from tests.generate.small import small

DATA = b"some bytes\x00\xff" * 20


@pytest.fixture
def pieces() -> list[np.ndarray]:
    return list(score(small(), ByteCodec(), DATA, chunk=50))


def test_npy_holds_the_scores_and_passes_them_on(pieces, tmp_path):
    passed = list(write_npy(pieces, tmp_path / "scores.npy"))
    assert all(a is b for a, b in zip(passed, pieces, strict=True))
    loaded = np.load(tmp_path / "scores.npy", mmap_mode="r")
    np.testing.assert_array_equal(loaded, np.concatenate(pieces))
    assert loaded.dtype == SURPRISAL


def test_jsonl_holds_the_scores_and_passes_them_on(pieces, tmp_path):
    passed = list(write_jsonl(pieces, tmp_path / "scores.jsonl"))
    assert all(a is b for a, b in zip(passed, pieces, strict=True))
    rows = [json.loads(line) for line in (tmp_path / "scores.jsonl").read_text().splitlines()]
    assert [tuple(row.values()) for row in rows] == np.concatenate(pieces).tolist()
    assert list(rows[0]) == ["offset", "length", "id", "bits"]


def test_no_scores_are_an_empty_file(tmp_path):
    list(write_npy([], tmp_path / "none.npy"))
    list(write_jsonl([], tmp_path / "none.jsonl"))
    assert np.load(tmp_path / "none.npy").shape == (0,)
    assert (tmp_path / "none.jsonl").read_bytes() == b""


@pytest.mark.parametrize("write", [write_npy, write_jsonl])
def test_what_was_not_finished_leaves_nothing_behind(write, pieces, tmp_path):
    def fails():
        yield pieces[0]
        raise ValueError("the model failed")

    with pytest.raises(ValueError, match="the model failed"):
        list(write(fails(), tmp_path / "scores"))
    left = write(pieces, tmp_path / "scores")
    next(left)
    left.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("write", [write_npy, write_jsonl])
def test_a_file_that_cannot_be_written_is_named(write, pieces, tmp_path):
    with pytest.raises(DataError, match="absent"):
        list(write(pieces, tmp_path / "absent" / "scores"))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_named(pieces, tmp_path):
    (tmp_path / "scores.partial").symlink_to("/dev/full")
    with pytest.raises(DataError, match="No space"):
        list(write_jsonl(pieces, tmp_path / "scores"))
    assert list(tmp_path.iterdir()) == []
