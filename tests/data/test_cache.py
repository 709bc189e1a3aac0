"""A corpus is in the cache whole or not at all, whoever builds it and whatever happens to it."""

from __future__ import annotations

import errno
import itertools
import os
import threading
import time
from pathlib import Path

import pytest

from everlong.core.errors import DataError
from everlong.data import ByteCodec, Codec
from everlong.data import cache as cache_module
from everlong.data import corpus as corpus_module
from tests.data.stored import FILES, cached, contents


def forbid_reading(monkeypatch) -> None:
    def refuse(path):
        raise AssertionError(f"{path} is read again")

    monkeypatch.setattr(corpus_module, "read_document", refuse)


def test_a_corpus_is_built_once(open_it, monkeypatch):
    first = open_it()
    forbid_reading(monkeypatch)
    second = open_it()
    assert second.fingerprint == first.fingerprint
    assert contents(second.train) == contents(first.train)
    assert second.train.names == first.train.names
    assert second.validation.offsets.tolist() == first.validation.offsets.tolist()


def test_whatever_a_corpus_depends_on_makes_another(open_it, folder: Path, tmp_path: Path, codec: Codec, fill):
    open_it()
    open_it(validation_fraction=0.4)
    open_it(validation_sources=folder / "1.bin")
    open_it(validation_sources=folder / "2.bin")
    os.utime(folder / "1.bin", ns=(1, 1))
    open_it()
    fill(folder, {"more": b"x"})
    assert "more" in contents(open_it().train) | contents(open_it().validation)
    assert len(cached(tmp_path)) == 6
    assert open_it(codec=codec).train.codec is codec
    assert len(cached(tmp_path)) == (6 if isinstance(codec, ByteCodec) else 7)


def test_the_fingerprint_is_of_contents_and_their_order(open_it, folder: Path, tmp_path: Path, fill):
    first = open_it().fingerprint
    assert open_it(fill(tmp_path / "elsewhere", FILES)).fingerprint == first
    assert open_it(fill(tmp_path / "other", FILES | {"1.bin": b"changed"})).fingerprint != first
    reordered = {f"{100 - int(name[:-4])}.bin": data for name, data in FILES.items()}
    assert open_it(fill(tmp_path / "reordered", reordered)).fingerprint != first


SMALL = ["train/offsets.npy", "train/byte_counts.npy", "validation/documents.json", "manifest.json"]
DAMAGES = {
    "truncated": lambda data: data[:-2],
    "emptied": lambda data: b"",
    "overwritten": lambda data: b"\x80" * len(data),
    "an object": lambda data: b"{}",
    "a list": lambda data: b"[]",
}


@pytest.mark.parametrize(
    ("name", "damage"),
    [(name, damage) for name in SMALL for damage in ("absent", *DAMAGES)]
    + [("train/tokens.bin", damage) for damage in ("absent", "truncated", "emptied")],  # its content is never checked
)
def test_a_damaged_cache_is_built_again(open_it, tmp_path: Path, name: str, damage: str):
    whole = open_it()
    path = cached(tmp_path)[0] / name
    data = path.read_bytes()
    if damage == "absent":
        path.unlink()
    else:
        path.write_bytes(DAMAGES[damage](data))
    again = open_it()
    assert again.fingerprint == whole.fingerprint
    assert contents(again.train) | contents(again.validation) == FILES
    assert path.read_bytes() == data
    assert len(cached(tmp_path)) == 1


def test_what_is_no_folder_is_replaced(open_it, tmp_path: Path):
    open_it()
    (home,) = cached(tmp_path)
    home.rename(tmp_path / "away")
    home.write_text("not a folder")
    assert contents(open_it().train)
    assert cached(tmp_path) == [home]


def test_an_interrupted_build_leaves_nothing(open_it, tmp_path: Path, monkeypatch):
    with monkeypatch.context() as patch:
        read = corpus_module.read_document
        patch.setattr(corpus_module, "read_document", lambda path: 1 / 0 if "30.bin" in path else read(path))
        with pytest.raises(ZeroDivisionError):
            open_it()
    assert cached(tmp_path) == []
    assert len(open_it().train) > 0


def test_a_killed_build_is_never_taken_for_a_corpus_and_swept_later(open_it, tmp_path: Path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(cache_module.shutil, "rmtree", lambda *a, **k: None)  # as if the process were gone
        patch.setattr(cache_module.Path, "rename", lambda *a: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            open_it()
    (orphan,) = cached(tmp_path)
    assert (orphan / "manifest.json").exists()
    whole = open_it()
    assert len(cached(tmp_path)) == 2, "another builder's folder is left alone while it may be at work"
    assert whole.fingerprint == open_it().fingerprint
    os.utime(orphan, (time.time() - 2 * 24 * 3600,) * 2)
    open_it(validation_fraction=0.4)
    assert not orphan.exists()
    assert len(cached(tmp_path)) == 2


@pytest.mark.parametrize("damaged", [False, True])
def test_builders_at_the_same_time_all_succeed(open_it, tmp_path: Path, monkeypatch, damaged: bool):
    if damaged:
        open_it()
        (cached(tmp_path)[0] / "train/tokens.bin").write_bytes(b"")
    together, found = threading.Barrier(4), []
    fill = corpus_module._Recipe._read

    def fill_together(recipe, split):
        together.wait(timeout=60)
        fill(recipe, split)

    def rename_slowly(path, target):
        time.sleep(0.3 * next(cleared) if target.name == "damaged" else 0.2)
        return rename(path, target)

    def load_slowly(recipe, folder):
        time.sleep(0.2)
        return load(recipe, folder)

    cleared, rename, load = itertools.count(), Path.rename, corpus_module._Recipe.load
    monkeypatch.setattr(corpus_module._Recipe, "_read", fill_together)
    monkeypatch.setattr(corpus_module._Recipe, "load", load_slowly)
    monkeypatch.setattr(cache_module.Path, "rename", rename_slowly)
    threads = [threading.Thread(target=lambda: found.append(open_it())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({corpus.fingerprint for corpus in found}) == 1
    assert [contents(corpus.train) | contents(corpus.validation) for corpus in found] == [FILES] * 4
    assert len(cached(tmp_path)) == 1


def test_a_cache_that_cannot_be_written_is_named(open_it, tmp_path: Path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"cache = .*file/corpora': cannot be written \(.*name another cache folder"):
        open_it(cache=tmp_path / "file")

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(cache_module.os, "fsync", full)
    with pytest.raises(DataError, match=r"cannot be written \(No space left on device\): free space"):
        open_it()
    assert cached(tmp_path) == []


def test_everything_is_on_the_disk_before_it_has_its_name(open_it, tmp_path: Path, monkeypatch):
    synced, fsync, rename = set(), os.fsync, Path.rename

    def note(handle):
        synced.add(os.fstat(handle).st_ino)
        fsync(handle)

    def check_and_rename(path, target):
        assert {file.stat().st_ino for file in [path, *path.rglob("*")]} <= synced
        return rename(path, target)

    monkeypatch.setattr(cache_module.os, "fsync", note)
    monkeypatch.setattr(Path, "rename", check_and_rename)
    open_it()
    assert (tmp_path / "cache/corpora").stat().st_ino in synced
