"""Where tables live: in memory, or in a file that the system maps into memory, page by page as it is needed.

A table in a file is a tensor like any other, so everything that reads or updates tables works on it, number for number
as in memory. It may be larger than memory: the system writes pages back, in its own time, and reads them again. Three
things are done about it here:

- **Untouched rows need no storage.** The file is sparse; what was never written is zero, and takes no room.
- **A full disk is found before a row is written**, since a write to a mapped page that finds no room would kill the
  process: `reserve` sets room aside for the pages of some rows, or raises and has changed nothing.
- **Rows can be asked for ahead** (`warm`): threads read them while something else is computed. What they read is
  thrown away; the pages stay with the system, where later writes go too. So no row that is read early can be stale,
  whatever was written between, and nothing depends on when the threads run.

The file has no name: it vanishes with the process. What lasts is a checkpoint.
"""

from __future__ import annotations

import errno
import functools
import mmap
import os
import tempfile
import weakref
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from everlong.core.errors import CheckpointError, ConfigError

PAGE = mmap.PAGESIZE
THREADS = 16  # that wait for the disk; a disk answers many at once
PAGES = 512  # that one of them reads at a time
RECENT = 64  # calls ago: a page that was asked for since is taken to be in memory still
_folder: ContextVar[Path | None] = ContextVar("folder of tables", default=None)


class _Map(mmap.mmap):
    """A mapped file of zeros."""

    folder: Path
    file: int
    """Its descriptor."""
    reserved: np.ndarray
    """Which of its pages have room on the disk."""
    asked: np.ndarray
    """In which call each page was asked for last."""
    calls: int = 0
    beside: list[weakref.ref[Tensor]]
    """Tensors that hold something for each row of this one."""

    def __del__(self) -> None:
        os.close(self.file)


_maps: weakref.WeakValueDictionary[int, _Map] = weakref.WeakValueDictionary()  # by the address of the first number


@contextmanager
def on_disk(folder: str | Path) -> Iterator[None]:
    """Tables that are made inside this context live in files of a folder, which is made if it is not there.

    Raises:
        ConfigError: no file can be made there.
    """
    token = _folder.set(Path(folder).expanduser())
    try:
        yield
    finally:
        _folder.reset(token)


def zeros(rows: int, width: int) -> Tensor:
    """A table of zeros, in memory or `on_disk`.

    Raises:
        ConfigError: the folder cannot be written to, or its file system cannot hold a file that large.
    """
    folder, device = _folder.get(), torch.get_default_device()
    if device.type == "meta" or (folder is None and device.type != "cpu"):
        return torch.zeros(rows, width)
    if folder is None:
        return _blank((rows, width), torch.get_default_dtype())
    return _mapped(folder, (rows, width), torch.get_default_dtype())


def zeros_beside(table: Tensor, *shape: int, dtype: torch.dtype | None = None) -> Tensor:
    """Zeros for what is to be remembered of each row of a table, wherever the table lives.

    Raises:
        ConfigError: as `zeros`.
    """
    home = _maps.get(_address(table))
    if home is None and not table.is_cpu:
        return table.detach().new_zeros(shape, dtype=dtype)
    if home is None:
        return _blank(shape, dtype or table.dtype)
    made = _mapped(home.folder, shape, dtype or table.dtype)
    home.beside.append(weakref.ref(made))
    return made


def is_mapped(tensor: Tensor) -> bool:
    """Whether a tensor lives in a file."""
    return _address(tensor) in _maps


def reserve(table: Tensor, row_U: Int64[Tensor, " u"]) -> None:
    """Makes sure that some rows of a table, and what is beside them, can be written. Nothing to do in memory.

    Args:
        row_U: each once, growing.

    Raises:
        CheckpointError: the disk is full; nothing was changed.
    """
    for tensor, home in _all(table):
        page_P = _pages(tensor, row_U)
        new_P = page_P[~torch.from_numpy(home.reserved).index_select(0, page_P)].numpy()
        for run in np.split(new_P, np.flatnonzero(np.diff(new_P) != 1) + 1) if len(new_P) else ():
            _reserve_pages(home, int(run[0]), len(run))


def used(tensor: Tensor, most: int) -> Iterator[Int64[Tensor, " u"]]:
    """Rows that may hold anything but zeros, growing, at most some at a time: of a file, those that it has data for."""
    home = _maps.get(_address(tensor))
    spans = iter([(0, len(tensor))]) if home is None else _data(home, tensor[0].nbytes, len(tensor))
    rows: list[Tensor] = []
    count = 0
    for start, stop in spans:
        for i in range(start, stop, most):
            row_U = torch.arange(i, min(i + most, stop))
            if count + len(row_U) > most:
                yield torch.cat(rows)
                rows, count = [], 0
            rows.append(row_U)
            count += len(row_U)
    if rows:
        yield torch.cat(rows)


def _data(home: _Map, width: int, rows: int) -> Iterator[tuple[int, int]]:
    """Spans of rows of so many bytes that a file has data for; each row is in one of them at most."""
    stop = 0
    while stop < rows:
        try:
            begin = os.lseek(home.file, stop * width, os.SEEK_DATA)
            end = os.lseek(home.file, begin, os.SEEK_HOLE)
        except OSError as error:
            if error.errno == errno.ENXIO:  # there is no more
                return
            begin, end = stop * width, rows * width
        start, stop = max(stop, begin // width), min(-(-end // width), rows)
        yield start, stop


def warm(table: Tensor, row_N: Int64[Tensor, " n"]) -> list[Future[None]]:
    """Begins to read some rows of a table, and what is beside them, into the system's memory, but for pages that were
    asked for in one of the last `RECENT` calls. Nothing to do in memory.

    Returns:
        What can be waited for, though nobody needs to.
    """
    row_U = row_N.unique()
    reads = [(tensor, page_P) for tensor, home in _all(table) for page_P in _cold(home, _pages(tensor, row_U))]
    return [_readers().submit(_read, tensor, page_P) for tensor, page_P in reads]


def _cold(home: _Map, page_P: Tensor) -> list[Tensor]:
    """Those pages that may not be in memory, some at a time."""
    home.calls += 1
    asked = torch.from_numpy(home.asked)
    cold_P = page_P[asked.index_select(0, page_P) < home.calls - RECENT]
    asked.index_fill_(0, page_P, home.calls)
    return [part_P for part_P in cold_P.split(PAGES) if len(part_P)]


def _read(tensor: Tensor, page_P: Tensor) -> None:
    tensor.detach().flatten().view(torch.uint8).index_select(0, page_P * PAGE)


def _pages(tensor: Tensor, row_U: Tensor) -> Int64[Tensor, " p"]:
    """Which pages of a file some rows lie on, growing as they do."""
    width = tensor[0].nbytes
    first_U, last_U = row_U * width // PAGE, ((row_U + 1) * width - 1) // PAGE
    wide = int((last_U - first_U).max()) if len(row_U) else 0
    if not wide:
        return first_U.unique_consecutive()
    return torch.cat([(first_U + i).minimum(last_U) for i in range(wide + 1)]).unique()


def _all(table: Tensor) -> list[tuple[Tensor, _Map]]:
    """A mapped table and what is beside it, with their maps; nothing if it is in memory."""
    home = _maps.get(_address(table))
    if home is None:
        return []
    beside = [tensor for reference in home.beside if (tensor := reference()) is not None]
    return [(tensor, _maps[_address(tensor)]) for tensor in (table, *beside)]


def _blank(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Zeros in memory, of which the system gives a page once it is written, whatever the allocator kept of others."""
    size = torch.Size(shape).numel() * dtype.itemsize
    try:
        home = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError as error:
        remedy = f"cannot hold a table of {size:,} bytes ({error.strerror}): name a folder for tables, or fewer rows"
        raise ConfigError("tables", "memory", remedy) from error
    return torch.frombuffer(home, dtype=dtype).view(shape)


def _mapped(folder: Path, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    size = torch.Size(shape).numel() * dtype.itemsize
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            os.ftruncate(file.fileno(), size)
            home = _Map(file.fileno(), size)
            home.folder, home.file = folder, os.dup(file.fileno())
    except OSError as error:
        remedy = f"cannot hold a table of {size:,} bytes ({error.strerror}): name a folder with room to write in"
        raise ConfigError("tables", str(folder), remedy) from error
    pages = -(-size // PAGE)
    home.reserved, home.asked, home.beside = np.zeros(pages, dtype=bool), np.full(pages, -RECENT, dtype=np.int32), []
    home.madvise(mmap.MADV_RANDOM)  # rows lie anywhere: what is beside one will not be asked for next
    tensor = torch.frombuffer(home, dtype=dtype).view(shape)
    _maps[_address(tensor)] = home
    return tensor


def _reserve_pages(home: _Map, first: int, count: int) -> None:
    try:
        os.posix_fallocate(home.file, first * PAGE, count * PAGE)
    except OSError as error:
        remedy = f"has no room for more rows of a table ({error.strerror}): free space; nothing was changed"
        raise CheckpointError("tables", str(home.folder), remedy) from error
    home.reserved[first : first + count] = True


def _address(tensor: Tensor) -> int:
    return 0 if tensor.device.type == "meta" else tensor.untyped_storage().data_ptr()


@functools.cache
def _readers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(THREADS, thread_name_prefix="tables")
