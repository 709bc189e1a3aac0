"""Packages of Debian and PyPI: downloaded by the registries' own clients, checked, and unpacked without trust.

No address is known here: `apt-get` and `pip` ask whatever registries the machine is set up with, and need no root to
download. What arrives must have the checksum that was recorded when the corpus was made.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import lzma
import shutil
import subprocess
import sys
import tarfile
import time
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from everlong.core.errors import DataError

MOST_UNPACKED = 2 << 30
"""Bytes that a package may unpack to; a small one that grows without end fills no disk."""

_POLL = 0.1  # seconds between two looks at a download


@dataclass(frozen=True)
class Package:
    """One version of a package."""

    registry: Literal["debian", "pypi"]
    name: str
    version: str
    size: int
    """Bytes of the file."""
    sha256: str

    @property
    def command(self) -> list[str]:
        """What downloads it into the current folder."""
        if self.registry == "debian":
            return ["apt-get", "download", f"{self.name}={self.version}"]
        options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary", ":all:"]
        return [sys.executable, "-m", "pip", "download", *options, f"{self.name}=={self.version}"]


def download(package: Package, folder: Path, advance: Callable[[float], None]) -> Path:
    """Downloads a package into an empty folder and checks it; `advance` is told the bytes that arrive.

    Raises:
        DataError: the registry's client is missing or fails, or the file is not the one that was recorded.
    """
    _check_client(package)
    folder.mkdir(parents=True)
    _run(package, folder, advance)
    files = [path for path in folder.iterdir() if path.is_file()]
    if len(files) != 1:
        raise DataError("package", package.name, f"gave {len(files)} files instead of one: try again")
    found = sha256(files[0])
    if found != package.sha256:
        remedy = f"is the checksum of what the registry sent; {package.sha256} was recorded. Nothing of it is kept: "
        raise DataError(f"package {package.name}", found, remedy + "try again, or another mirror of the registry")
    return files[0]


def unpack(path: Path, folder: Path) -> None:
    """Unpacks a .deb's data or a wheel into a folder; nothing lands outside it, and nothing runs.

    Raises:
        DataError: the file is damaged, of another kind, too large when unpacked, or would write elsewhere.
    """
    folder.mkdir(parents=True)
    try:
        if path.suffix == ".deb":
            _unpack_tar(path, _deb_data(path), folder)
        else:
            _unpack_zip(path, folder)
    except DataError:
        raise
    except (tarfile.TarError, zipfile.BadZipFile, lzma.LZMAError, zlib.error, EOFError, ValueError) as error:
        raise DataError("package", path.name, f"cannot be unpacked ({error}): fetch it again") from error


def sha256(path: Path) -> str:
    """Checksum of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_client(package: Package) -> None:
    if package.registry == "debian" and shutil.which("apt-get") is None:
        raise DataError("package", package.name, "needs apt-get, which Debian and its derivatives have")
    if package.registry == "pypi" and importlib.util.find_spec("pip") is None:
        raise DataError("package", package.name, "needs pip in this environment: python -m ensurepip")


def _run(package: Package, folder: Path, advance: Callable[[float], None]) -> None:
    arrived = 0
    with (folder.parent / f"{folder.name}.log").open("w+b") as log:
        process = subprocess.Popen(package.command, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            while process.poll() is None:
                time.sleep(_POLL)
                now = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
                advance(float(now - arrived))
                arrived = now
        finally:
            process.kill()
            process.wait()
        log.seek(0)
        told = log.read().decode("utf-8", "replace").strip().splitlines()
    advance(float(package.size - arrived))
    if process.returncode != 0:
        last = told[-1] if told else f"exit code {process.returncode}"
        remedy = f"cannot be downloaded ({last}): check the network"
        hint = ", run `apt-get update`, or look which version your release has" if package.registry == "debian" else ""
        raise DataError("package", f"{package.name} {package.version}", remedy + hint)


def _deb_data(path: Path) -> io.BytesIO:
    """The archive of files in a .deb, which is an `ar` archive: members with a header of 60 bytes, at even places."""
    with path.open("rb") as file:
        if file.read(8) != b"!<arch>\n":
            raise DataError("package", path.name, "is no .deb: fetch it again")
        while header := file.read(60):
            if len(header) < 60 or header[58:] != b"`\n":
                raise DataError("package", path.name, "is damaged: fetch it again")
            size = int(header[48:58])
            if header[:16].startswith(b"data.tar"):
                return io.BytesIO(file.read(size))
            file.seek(size + size % 2, 1)
    raise DataError("package", path.name, "holds no files: fetch it again")


def _unpack_tar(path: Path, data: io.BytesIO, folder: Path) -> None:
    if not hasattr(tarfile, "data_filter"):
        raise DataError("python", sys.version.split()[0], "cannot unpack archives safely: use 3.11.4 or newer")
    with tarfile.open(fileobj=data, mode="r:*") as archive:
        members = archive.getmembers()
        _check_size(path, sum(member.size for member in members))
        files = [member for member in members if not member.issym()]  # links are of no use here, and may lead out
        archive.extractall(folder, members=files, filter="data")


def _unpack_zip(path: Path, folder: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        _check_size(path, sum(member.file_size for member in members))
        for member in members:
            name = PurePosixPath(member.filename)
            if name.is_absolute() or ".." in name.parts or "\\" in member.filename:
                raise DataError("package", path.name, f"would write to {member.filename!r}: do not use it")
        archive.extractall(folder)


def _check_size(path: Path, size: int) -> None:
    if size > MOST_UNPACKED:
        raise DataError("package", path.name, f"unpacks to {size} bytes, and {MOST_UNPACKED} are the most")
