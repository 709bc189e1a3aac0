"""Corpora from packages made here: downloaded by stand-ins of the clients, checked, unpacked, split."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import os
import shutil
import subprocess
import tarfile
import zipfile
from importlib import import_module
from pathlib import Path

import pytest

from everlong.core.errors import DataError
from everlong.data import ByteCodec, open_corpus
from everlong.data.corpora import CORPORA, Corpus, Package, catalogue, fetch, fetched, packages, sources

module = import_module("everlong.data.corpora.fetch")


def tar_of(files: dict[str, bytes], extra: tarfile.TarInfo | None = None) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:xz") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
        if extra is not None:
            archive.addfile(extra)
    return made.getvalue()


def deb_of(data: bytes, name: str = "data.tar.xz") -> bytes:
    members = [("debian-binary", b"2.0\n"), ("control.tar.xz", b"odd"), (name, data)]
    made = b"!<arch>\n"
    for member, content in members:
        made += f"{member:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n".encode() + content
        made += b"\n" * (len(content) % 2)
    return made


def wheel_of(files: dict[str, bytes]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return made.getvalue()


def package_of(registry, name: str, data: bytes) -> Package:
    return Package(registry, name, "1.0", len(data), hashlib.sha256(data).hexdigest())


FILES = {"./usr/share/doc/a/copyright": b"free", **{f"./usr/{i}.txt": f"{i} text".encode() * 9 for i in range(6)}}


def split(unpacked: Path, out: Path) -> None:
    for file in sorted(unpacked.rglob("*.txt")):
        path = out / ("validation" if file.stem == "5" else "train") / file.name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(file.read_bytes())


@pytest.fixture
def registry(tmp_path, monkeypatch) -> Path:
    """A folder of packages, from which stand-ins of both clients copy."""
    shelf, clients = tmp_path / "shelf", tmp_path / "clients"
    shelf.mkdir()
    clients.mkdir()
    script = f'#!/bin/sh\ntest "$1" = download || exit 1\ncp {shelf}/"${{2%%=*}}"* .\n'
    (clients / "apt-get").write_text(script)
    (clients / "apt-get").chmod(0o755)
    monkeypatch.setenv("PATH", f"{clients}:{os.environ['PATH']}")
    real = Package.command.fget
    monkeypatch.setattr(
        Package,
        "command",
        property(lambda p: real(p) if p.registry == "debian" else ["cp", f"{shelf}/{p.name}.whl", "."]),
    )
    return shelf


@pytest.fixture
def small(registry, tmp_path, monkeypatch) -> Corpus:
    """A corpus of a .deb and a wheel."""
    deb, wheel = deb_of(tar_of(FILES)), wheel_of({"b/6.txt": b"6 text", "b.dist-info/LICENSE": b"free too"})
    (registry / "a_1.0_all.deb").write_bytes(deb)
    (registry / "b.whl").write_bytes(wheel)
    made = Corpus("text", "a", "free", "5", (package_of("debian", "a", deb), package_of("pypi", "b", wheel)), split, "")
    unpacked, out = tmp_path / "unpacked", tmp_path / "out"
    packages.unpack(registry / "a_1.0_all.deb", unpacked / "a")
    packages.unpack(registry / "b.whl", unpacked / "b")
    out.mkdir()
    split(unpacked, out)
    made = dataclasses.replace(made, digest=module.digest(out))
    monkeypatch.setitem(catalogue.CORPORA, "small", made)
    return made


def left(cache: Path) -> list[str]:
    return [str(path) for path in cache.rglob("*") if path.is_file()]


def test_fetch_makes_a_corpus_and_keeps_it(small, tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    with pytest.raises(DataError, match="everlong data fetch small"):
        fetched("small", cache)
    folder = fetch("small", cache)
    assert sorted(path.name for path in folder.iterdir()) == ["LICENCE", "manifest.json", "train", "validation"]
    assert [path.name for path in sorted((folder / "train").iterdir())] == [f"{i}.txt" for i in (0, 1, 2, 3, 4, 6)]
    assert (folder / "validation" / "5.txt").read_bytes() == FILES["./usr/5.txt"]
    assert "free" in (folder / "LICENCE").read_text()
    assert "free too" in (folder / "LICENCE").read_text()
    monkeypatch.setattr(subprocess, "Popen", None)  # nothing is downloaded again
    assert fetch("small", cache) == fetched("small", cache) == folder


def test_a_damaged_corpus_is_made_again(small, tmp_path):
    folder = fetch("small", tmp_path)
    (folder / "train" / "0.txt").write_bytes(b"changed")
    assert fetch("small", tmp_path) == folder
    assert (folder / "train" / "0.txt").read_bytes() == FILES["./usr/0.txt"]


@pytest.mark.parametrize("damage", [b"", b"!<arch>\n", b"no archive"])
def test_another_checksum_is_refused(damage, small, registry, tmp_path):
    (registry / "a_1.0_all.deb").write_bytes(damage)
    with pytest.raises(DataError, match="was recorded") as refused:
        fetch("small", tmp_path / "cache")
    assert small.packages[0].sha256 in str(refused.value)
    assert not left(tmp_path / "cache")


def test_another_result_is_refused(small, tmp_path, monkeypatch):
    changed = dataclasses.replace(small, prepare=lambda unpacked, out: (split(unpacked, out), _touch(out)))
    monkeypatch.setitem(catalogue.CORPORA, "small", changed)
    with pytest.raises(DataError, match="prepared differently"):
        fetch("small", tmp_path / "cache")
    assert not left(tmp_path / "cache")


def _touch(out: Path) -> None:
    (out / "train" / "0.txt").write_bytes(b"other")


def test_a_fetch_that_is_killed_leaves_no_corpus(small, tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "unpack", stop)
    with pytest.raises(KeyboardInterrupt):
        fetch("small", tmp_path / "cache")
    assert not left(tmp_path / "cache")


def test_a_client_that_fails_or_is_missing(small, registry, tmp_path, monkeypatch):
    (registry / "a_1.0_all.deb").unlink()
    with pytest.raises(DataError, match="apt-get update"):
        fetch("small", tmp_path / "cache")
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(DataError, match="needs apt-get"):
        fetch("small", tmp_path / "cache")
    assert not left(tmp_path / "cache")


def test_commands_are_those_of_the_registries():
    debian, pypi = Package("debian", "a", "1", 0, ""), Package("pypi", "b", "2", 0, "")
    assert debian.command == ["apt-get", "download", "a=1"]
    assert pypi.command[1:4] == ["-m", "pip", "download"]
    assert pypi.command[-1] == "b==2"
    assert {"--no-deps", "--only-binary"} <= set(pypi.command)  # nothing of the package runs


def link(name: str, target: str, kind: bytes) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, target
    return made


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.deb", deb_of(tar_of({"../out": b"x"}))),
        ("a.deb", deb_of(tar_of({"a/../../out": b"x"}))),
        ("a.deb", deb_of(tar_of({}, link("hard", "../out", tarfile.LNKTYPE)))),
        ("a.deb", deb_of(tar_of({}, link("device", "", tarfile.CHRTYPE)))),
        ("a.deb", deb_of(b"no tar")),
        ("a.deb", deb_of(tar_of(FILES)[:200])),
        ("a.deb", deb_of(tar_of(FILES), name="other")),
        ("a.deb", deb_of(tar_of(FILES))[:70]),
        ("a.deb", b"no archive"),
        ("a.whl", wheel_of({"../out": b"x"})),
        ("a.whl", wheel_of({"/out": b"x"})),
        ("a.whl", wheel_of({"..\\out": b"x"})),
        ("a.whl", b"no archive"),
    ],
)
def test_archives_that_are_damaged_or_reach_out(name, data, tmp_path):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError):
        packages.unpack(tmp_path / name, tmp_path / "in" / "side")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / name]


def test_absolute_names_and_links_stay_inside(tmp_path):
    """The standard library's filter takes the slash away; links are left out."""
    data = tar_of({"/etc/passwd": b"x"}, link("soft", "/etc/hostname", tarfile.SYMTYPE))
    (tmp_path / "a.deb").write_bytes(deb_of(data))
    packages.unpack(tmp_path / "a.deb", tmp_path / "side")
    assert [path for path in (tmp_path / "side").rglob("*") if path.is_file()] == [tmp_path / "side/etc/passwd"]
    assert not (tmp_path / "side" / "soft").is_symlink()


def test_archives_that_grow_without_end(tmp_path, monkeypatch):
    monkeypatch.setattr(packages, "MOST_UNPACKED", 100)
    for name, data in (("a.deb", deb_of(tar_of({"a": bytes(101)}))), ("a.whl", wheel_of({"a": bytes(101)}))):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(DataError, match="are the most"):
            packages.unpack(tmp_path / name, tmp_path / f"{name}.d")


def test_sources_of_a_name(small, tmp_path, monkeypatch):
    folder = fetch("small", tmp_path)
    assert sources(["small"], [], tmp_path) == ((str(folder / "train"),), (str(folder / "validation"),))
    assert sources(["small"], ["mine"], tmp_path) == ((str(folder / "train"),), ("mine",))
    assert sources(["a", "small"], [], tmp_path) == (("a", "small"), ())
    corpus = open_corpus(
        str(folder / "train"), codec=ByteCodec(), validation_sources=str(folder / "validation"), cache=tmp_path
    )
    assert (len(corpus.train), len(corpus.validation)) == (6, 1)
    monkeypatch.chdir(tmp_path)
    Path("small").write_text("a file of that name")
    assert sources(["small"], [], tmp_path) == (("small",), ())


def test_unknown_names():
    with pytest.raises(DataError, match="did you mean 'chr22'"):
        fetch("chr2")


def test_every_corpus_of_the_catalogue_is_complete():
    assert {one.kind for one in CORPORA.values()} == {"text", "code", "DNA", "audio", "images"}
    for one in CORPORA.values():
        assert all([one.licence, one.about, one.held_out, one.packages])
        for checksum in [one.digest, *(package.sha256 for package in one.packages)]:
            assert len(bytes.fromhex(checksum)) == 32
