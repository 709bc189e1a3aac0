"""Files appear whole or not at all."""

from __future__ import annotations

import json
import os
import stat

import pytest

from everlong.core.errors import DataError
from everlong.evaluate.output import replacing, write_bytes, write_json, write_text


def test_what_is_written_is_there_and_nothing_else(tmp_path):
    write_text(tmp_path / "a.txt", "naïve\n")
    write_bytes(tmp_path / "b", b"\0\xff")
    write_json(tmp_path / "c.json", {"x": 1.5})
    assert (tmp_path / "a.txt").read_bytes() == "naïve\n".encode()
    assert (tmp_path / "b").read_bytes() == b"\0\xff"
    assert json.loads((tmp_path / "c.json").read_text()) == {"x": 1.5}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.txt", "b", "c.json"]


def test_an_error_leaves_the_old_file_and_no_other(tmp_path):
    (tmp_path / "a").write_text("old")
    with pytest.raises(ZeroDivisionError), replacing(tmp_path / "a") as temporary:
        temporary.write_text(f"new, but not whole: {1 / 0}")
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("a", "old")]


def test_the_new_name_comes_after_the_last_byte(tmp_path):
    with replacing(tmp_path / "a.txt") as temporary:
        assert temporary.suffix == ".txt"  # for writers that go by it
        temporary.write_text("x")
        assert not (tmp_path / "a.txt").exists()
    assert (tmp_path / "a.txt").read_text() == "x"


def test_others_may_read_it_as_they_may_read_other_files(tmp_path):
    before = os.umask(0o022)
    try:
        write_text(tmp_path / "a", "x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o644


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DataError, match="absent"):
        write_text(tmp_path / "absent" / "a", "x")


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path):
    with pytest.raises(DataError, match="No space left"), replacing(tmp_path / "a"):
        raise OSError(28, "No space left on device")
    assert not list(tmp_path.iterdir())


def test_what_is_no_number_is_refused(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"x": float("nan")})
    assert not list(tmp_path.iterdir())
