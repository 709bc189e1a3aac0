"""Tables in files: sparse, never written for want of room, read ahead without going stale, gone with the process."""

from __future__ import annotations

import errno
import gc
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from everlong import Span
from everlong.core.errors import CheckpointError, ConfigError
from everlong.memory import storage
from everlong.memory.prefetch import prefetch
from everlong.memory.storage import PAGE, is_mapped, on_disk, reserve, used, warm, zeros, zeros_beside
from everlong.memory.table import Table
from everlong.train.rowwise_adagrad import RowwiseAdagrad
from tests.memory.test_engram import small


@pytest.fixture
def rows(tmp_path: Path) -> torch.Tensor:
    """A table of a GB that lives in a file."""
    with on_disk(tmp_path):
        return zeros(2**23, 32)


def blocks(tensor: torch.Tensor) -> int:
    """Bytes of disk that a table takes."""
    return 512 * os.fstat(storage._maps[storage._address(tensor)].file).st_blocks


def test_rows_that_are_not_touched_take_no_room(rows: torch.Tensor) -> None:
    assert blocks(rows) == 0
    rows[12_345] = 1.0
    assert 0 < blocks(rows) <= 16 * PAGE
    assert not rows[12_346:12_400].any()
    assert blocks(rows) <= 16 * PAGE  # nor do those that were read


def test_is_in_memory_by_default_and_again_after(rows: torch.Tensor) -> None:
    assert is_mapped(rows)
    assert not is_mapped(zeros(3, 4))
    assert not is_mapped(zeros_beside(zeros(3, 4), 3))
    assert is_mapped(zeros_beside(rows, len(rows)))


def test_rows_in_memory_take_no_room_either_until_they_are_touched() -> None:
    """Also where a table has been freed before and its memory is kept, from which the allocator gives written zeros."""
    program = """
from pathlib import Path
from everlong.memory.storage import zeros, zeros_beside
from everlong.train.allocator import keep_freed_memory
keep_freed_memory()
before = int(Path("/proc/self/statm").read_text().split()[1])
for _ in range(2):
    table = zeros(2**21, 32)
    assert not table[::5000].any() and not zeros_beside(table, 2**21)[::5000].any()
    del table
print(int(Path("/proc/self/statm").read_text().split()[1]) - before)
"""
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(told.stdout) * PAGE < 2**26


def test_a_table_beyond_memory_is_refused() -> None:
    with pytest.raises(ConfigError, match="name a folder for tables, or fewer rows"):
        zeros(2**50, 32)


def test_on_meta_it_is_nowhere(tmp_path: Path) -> None:
    with on_disk(tmp_path / "never"), torch.device("meta"):
        assert zeros(2**40, 32).is_meta
    assert not (tmp_path / "never").exists()


def test_leaves_nothing_behind(tmp_path: Path) -> None:
    with on_disk(tmp_path / "new"):
        table = Table(1000, 4)
    before = len(storage._maps)
    assert list((tmp_path / "new").iterdir()) == []
    del table
    gc.collect()
    assert len(storage._maps) == before - 1


def test_stays_where_it_is_when_its_model_moves(tmp_path: Path) -> None:
    with on_disk(tmp_path):
        part = small().build().double()
    assert is_mapped(part.table.rows)
    assert part.key.weight.dtype == torch.float64
    assert part.table.rows.dtype == torch.float32


def test_reserves_the_pages_of_rows_and_of_what_is_beside_them(tmp_path: Path) -> None:
    with on_disk(tmp_path):
        table = zeros(1000, 3 * PAGE // 8)  # a row takes one page and a half
    beside = zeros_beside(table, 1000)
    reserve(table, torch.tensor([0, 7, 999]))
    home, other = (storage._maps[storage._address(tensor)] for tensor in (table, beside))
    assert home.reserved.nonzero()[0].tolist() == [0, 1, 10, 11, 1498, 1499]
    assert other.reserved.nonzero()[0].tolist() == [0]
    assert blocks(table) == 6 * PAGE


def test_a_full_disk_is_found_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with on_disk(tmp_path):
        table = Table(10_000, 8)
    optimizer = RowwiseAdagrad.Config().build([{"params": [table.rows], "lr": 0.1}])
    for turn, place in enumerate((3, 9000)):
        table(torch.tensor([3, place])).sum().backward()
        if turn == 1:
            before = table.rows.detach().clone(), optimizer.memory[table.rows]["sum"].clone()
            monkeypatch.setattr(os, "posix_fallocate", full)
            with pytest.raises(CheckpointError, match=r"tables = .*no room .*No space left on device.*nothing was"):
                optimizer.step()
            assert torch.equal(table.rows, before[0])
            assert torch.equal(optimizer.memory[table.rows]["sum"], before[1])
            monkeypatch.undo()
        optimizer.step()  # with room again, it goes on
        optimizer.zero_grad()
    assert table.rows[9000].all()


def test_a_folder_that_cannot_hold_a_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with on_disk(tmp_path / "file"), pytest.raises(ConfigError, match=r"tables = .*cannot hold a table of 120 bytes"):
        zeros(10, 3)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with on_disk(tmp_path), pytest.raises(ConfigError, match="File too large"):
            zeros(1000, 3)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_rows_that_were_asked_for_ahead_are_those_of_now(rows: torch.Tensor) -> None:
    """The hazard, forced: rows are read ahead, then written, then read, over and over; no read is of the past."""
    row_U = torch.arange(0, 5000, 7)
    for turn in range(20):
        reads = warm(rows, row_U)
        rows[row_U] += 1.0
        assert torch.equal(rows[row_U], torch.full((len(row_U), 32), turn + 1.0))
        for read in reads:
            read.result()
        assert torch.equal(rows[row_U], torch.full((len(row_U), 32), turn + 1.0))


def test_prefetching_reads_the_rows_that_are_then_looked_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with on_disk(tmp_path):
        part = small().build()
    asked: list[torch.Tensor] = []
    monkeypatch.setattr(storage, "_read", lambda _tensor, page_P: asked.append(page_P))
    span = Span.plain_from(torch.randint(10, (3, 20)))
    for read in prefetch(part, span):
        read.result()
    pages = part.hash(span)[0] * part.table.rows[0].nbytes // PAGE
    assert torch.equal(torch.cat(asked).sort().values, pages.unique())
    assert prefetch(small().build(), span) == []  # in memory there is nothing to read


def test_pages_are_read_again_only_after_a_while(rows: torch.Tensor) -> None:
    row_U, others_U = torch.tensor([5, 6, 40_000]), torch.tensor([80_000])
    assert len(warm(rows, row_U)) == 1
    for _ in range(storage.RECENT):
        assert warm(rows, row_U) == []
    for turn in range(storage.RECENT + 1):
        assert len(warm(rows, others_U)) == (turn == 0)
    assert len(warm(rows, row_U)) == 1


@pytest.mark.parametrize("width", [1, 32, 100, 3000])
@pytest.mark.parametrize("most", [64, 10**6])
def test_rows_that_were_written_are_found_without_reading_the_others(tmp_path: Path, width: int, most: int) -> None:
    with on_disk(tmp_path):
        table = zeros(10_000, width)
    row_U = torch.tensor([3, 500, 501, 4096, 9999])
    table[row_U] = 1.0
    pieces = list(used(table, most))
    found = torch.cat(pieces)
    assert all(len(piece) <= most for piece in pieces)
    assert torch.equal(found, found.unique())
    assert set(row_U.tolist()) <= set(found.tolist())
    assert len(found) <= len(row_U) * (16 * PAGE // (4 * width) + 2)
    assert torch.equal(torch.cat(list(used(torch.zeros(100, width), most))), torch.arange(100))


def test_where_a_file_system_tells_no_holes_every_row_is_looked_at(rows: torch.Tensor, monkeypatch) -> None:
    def refuse(*_: object) -> int:
        raise OSError(errno.EINVAL, "unknown")

    monkeypatch.setattr(storage.os, "lseek", refuse)
    assert sum(len(piece) for piece in used(rows, 2**20)) == len(rows)


def test_a_file_that_was_not_written_has_no_rows(rows: torch.Tensor) -> None:
    assert list(used(rows, 100)) == []


def test_an_empty_batch_of_rows_is_nothing_to_do(rows: torch.Tensor) -> None:
    none = torch.zeros(0, dtype=torch.int64)
    reserve(rows, none)
    assert warm(rows, none) == []
    assert blocks(rows) == 0
