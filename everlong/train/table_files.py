"""Tables in checkpoints: only the rows that changed since the last one are written.

    tables-000001-all.safetensors    every row that is not zero, or of which the optimizer remembers something
    tables-000002-new.safetensors    rows that changed since; the numbers count on from checkpoint to checkpoint

A checkpoint holds all the files that make its tables; those of the checkpoint before are hard links, so that no row is
written twice and each checkpoint can be removed by itself. Once the `new` files together are larger than the `all`
files, everything is written anew instead. A file has, of some rows of some tables,

    at:<name>        which rows
    rows:<name>      their numbers
    <kind>:<name>    what the optimizer remembers of them

and later files count. A file holds at most `ROWS` rows of one table, which bounds the memory that saving takes.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import torch
from jaxtyping import Int64
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from everlong.core.errors import CheckpointError
from everlong.memory.storage import reserve, used
from everlong.train.row_optimizer import RowOptimizer
from everlong.train.weights import tables

ROWS = 1 << 20
_NAME = re.compile(r"tables-(\d{6,})-(all|new)\.safetensors")


def write_tables(folder: Path, model: nn.Module, optimizer: RowOptimizer | None, previous: Path | None) -> None:
    """Writes a model's tables, and what an optimizer remembers of them.

    Args:
        previous: the last checkpoint, since which `optimizer.changed` counts; `None`: there is none.

    Raises:
        OSError, SafetensorError: the disk is full, or cannot be written.
    """
    before = [] if previous is None else _files(previous)
    sizes = {kind: sum(path.stat().st_size for path in before if kind in path.name) for kind in ("-all", "-new")}
    kind = "-all" if sizes["-new"] >= sizes["-all"] else "-new"
    for path in before if kind == "-new" else ():
        _link(path, folder / path.name)
    number = int(before[-1].name.split("-")[1]) if before else 0
    for name, table in tables(model).items():
        homes = _homes(table, optimizer)
        rows = _used(homes) if kind == "-all" else _changed(table, optimizer)
        for row_U in rows:
            number += 1
            tensors = {f"{part}:{name}": home[row_U].contiguous() for part, home in homes.items()}
            save_file({f"at:{name}": row_U, **tensors}, folder / f"tables-{number:06d}{kind}.safetensors")


def read_tables(folder: Path, model: nn.Module, optimizer: RowOptimizer | None) -> None:
    """Puts the tables of a verified checkpoint into a model, and what was remembered of them into an optimizer.

    Raises:
        CheckpointError: they are of another model or optimizer, or the disk that a table lives on is full.
    """
    found = tables(model)
    for table in found.values():
        homes = _homes(table, optimizer)
        for row_U in _used(homes):
            for home in homes.values():
                home[row_U] = 0
    for path in _files(folder):
        with safe_open(path, framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  # it is no dictionary
        name = next(key for key in tensors if key.startswith("at:")).removeprefix("at:")
        if name not in found:
            raise CheckpointError("tables", name, "is in the checkpoint only: it is of another model")
        row_U = tensors[f"at:{name}"]
        for part, home in _homes(found[name], optimizer).items():
            _check_fits(f"{part}:{name}", tensors.get(f"{part}:{name}"), row_U, home)
        reserve(found[name], row_U)
        for part, home in _homes(found[name], optimizer).items():
            home[row_U.to(home.device)] = tensors[f"{part}:{name}"].to(home.device)


def _files(folder: Path) -> list[Path]:
    """The files of a checkpoint's tables, in their order."""
    return sorted((path for path in folder.iterdir() if _NAME.fullmatch(path.name)), key=lambda path: path.name)


def _homes(table: nn.Parameter, optimizer: RowOptimizer | None) -> dict[str, Tensor]:
    """Everything that has a first dimension of rows, by kind."""
    trained = optimizer is not None and any(table is other for other in optimizer.tables)
    return {"rows": table.data, **(optimizer.remember(table) if optimizer is not None and trained else {})}


def _used(homes: dict[str, Tensor]) -> Iterator[Int64[Tensor, " u"]]:
    """Rows that hold anything but zeros, piece by piece."""
    for row_U in used(homes["rows"], ROWS):
        first, last = int(row_U[0]), int(row_U[-1])
        whole = last - first == len(row_U) - 1
        pieces = [home[first : last + 1] if whole else home[row_U] for home in homes.values()]
        used_U = torch.stack([(piece.flatten(1) if piece.ndim > 1 else piece[:, None]).any(1) for piece in pieces])
        if len(found_U := row_U[used_U.any(0).cpu()]):
            yield found_U


def _changed(table: nn.Parameter, optimizer: RowOptimizer | None) -> Iterator[Int64[Tensor, " u"]]:
    """Rows that were updated since the last checkpoint, piece by piece; a table that is not trained has none."""
    changed_R = None if optimizer is None else optimizer.changed.get(table)
    row_U = torch.zeros(0, dtype=torch.int64) if changed_R is None else changed_R.nonzero()[:, 0]
    yield from (piece for piece in row_U.split(ROWS) if len(piece))


def _check_fits(field: str, tensor: Tensor | None, row_U: Tensor, home: Tensor) -> None:
    if tensor is None:
        raise CheckpointError("tables", field, "is not in the checkpoint: it is of another optimizer")
    told, wanted = (f"{x.dtype} {list(x.shape[1:])}" for x in (tensor, home))
    if told != wanted or len(tensor) != len(row_U) or int(row_U.max()) >= len(home):
        shown = f"row {int(row_U.max())}, {told}"
        raise CheckpointError(f"tables.{field}", shown, f"has {len(home)} rows, {wanted} in the model: it is another")


def _link(path: Path, to: Path) -> None:
    try:
        os.link(path, to)
    except OSError:  # a file system without hard links, or too many of them
        shutil.copyfile(path, to)
