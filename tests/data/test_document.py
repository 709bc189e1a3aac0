"""Packed files are read as what they hold, or refused; never as less."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import random
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from everlong.core.errors import DataError
from everlong.data import read_document

CONTENT = bytes(range(256)) * 40 + b"\0\0 the end \n"
PACK: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "xz": lzma.compress, "bzip2": bz2.compress}


def pack(kind: str, data: bytes) -> bytes:
    if kind == "zstd":
        return pytest.importorskip("zstandard").ZstdCompressor(write_checksum=True).compress(data)
    return PACK[kind](data)


@pytest.fixture
def read(tmp_path: Path) -> Callable[[bytes], bytes]:
    """What is read from a file with these bytes; its name says nothing."""

    def write_and_read(data: bytes) -> bytes:
        (tmp_path / "file.txt").write_bytes(data)
        return read_document(tmp_path / "file.txt")

    return write_and_read


kinds = pytest.mark.parametrize("kind", [*PACK, "zstd"])


@kinds
def test_packed_files_are_unpacked(read, kind: str):
    assert read(pack(kind, CONTENT)) == CONTENT
    assert read(pack(kind, b"")) == b""


@kinds
def test_every_stream_of_a_file_is_unpacked(read, kind: str):
    assert read(pack(kind, b"one ") + pack(kind, CONTENT) + pack(kind, b"")) == b"one " + CONTENT


@kinds
@pytest.mark.parametrize("streams", [1, 2])
def test_a_truncated_file_is_refused(read, kind: str, streams: int):
    packed = pack(kind, CONTENT) * streams
    with pytest.raises(DataError, match=rf"file\.txt': begins as {kind} but is damaged .*fetch it again"):
        read(packed[:-9])


@kinds
@pytest.mark.parametrize("stream", [0, 1])
def test_a_damaged_file_is_refused(read, kind: str, stream: int):
    packed = [bytearray(pack(kind, random.Random(i).randbytes(5000))) for i in range(2)]
    packed[stream][2000] ^= 0xFF
    with pytest.raises(DataError, match=f"begins as {kind} but is damaged"):
        read(bytes(packed[0] + packed[1]))


def test_xz_padding_is_no_damage(read):
    assert read(lzma.compress(b"a") + b"\0" * 8 + lzma.compress(b"b") + b"\0" * 4) == b"ab"


@pytest.mark.parametrize("data", [b"", b"\0", CONTENT, b"BZh9 is how this text begins", b"\x1f\x8b", b"\xff" * 9])
def test_other_files_are_read_as_they_are(read, data: bytes):
    assert read(data) == data


def test_the_name_does_not_matter(tmp_path: Path):
    (tmp_path / "plain.gz").write_bytes(b"plain")
    assert read_document(tmp_path / "plain.gz") == b"plain"


def test_zstd_without_a_module_names_the_remedy(read, monkeypatch):
    for module in ("compression", "compression.zstd", "zstandard"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(DataError, match=r"file\.txt'.*pip install zstandard, or unpack it first"):
        read(b"\x28\xb5\x2f\xfd\x00")


def test_absent_files_and_folders_are_refused(tmp_path: Path):
    for path in (tmp_path / "absent", tmp_path):
        with pytest.raises(DataError, match=r"cannot be read .*check that it is a file"):
            read_document(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_files_are_refused(tmp_path: Path):
    (tmp_path / "secret").write_bytes(b"x")
    (tmp_path / "secret").chmod(0)
    with pytest.raises(DataError, match=r"cannot be read \(Permission denied\)"):
        read_document(tmp_path / "secret")
