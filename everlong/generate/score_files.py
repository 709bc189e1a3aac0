"""Scores as files, written while they are made.

Both functions pass on what they write, so that sums or plots can be made of it in the same pass:

    for piece in write_npy(score(model, codec, "war_and_peace.txt"), "scores.npy"):
        totals.add(piece)

Both raise `DataError` when the file cannot be written.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import BufferedWriter
from pathlib import Path

import numpy as np

from everlong.core.errors import DataError
from everlong.generate.scoring import SURPRISAL


def write_jsonl(pieces: Iterable[np.ndarray], path: str | Path) -> Iterator[np.ndarray]:
    """One JSON object a token, with the fields of `SURPRISAL`. The file appears when all is written."""
    names = SURPRISAL.names or ()
    with _whole_file(Path(path)) as file:
        for piece in pieces:
            lines = (json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in piece.tolist())
            file.write("".join(lines).encode())
            yield piece


def write_npy(pieces: Iterable[np.ndarray], path: str | Path) -> Iterator[np.ndarray]:
    """One NumPy array of dtype `SURPRISAL`, for `numpy.load`. The file appears when all is written."""
    written = 0
    with _whole_file(Path(path)) as file:
        _write_header(file, written)
        for piece in pieces:
            file.write(piece.tobytes())
            written += len(piece)
            yield piece
        _write_header(file, written)


def _write_header(file: BufferedWriter, length: int) -> None:
    """Writes the header in place: NumPy leaves room in it for the first axis to grow."""
    file.seek(0)
    descr = np.lib.format.dtype_to_descr(SURPRISAL)
    np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": (length,)})


@contextmanager
def _whole_file(path: Path) -> Iterator[BufferedWriter]:
    """A file that takes its name when it is complete, and else is removed."""
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as file:
            yield file
        os.replace(partial, path)
    except OSError as error:
        remedy = f"cannot be written ({error.strerror}): check that its folder exists, may be written, and has room"
        raise DataError("output", str(path), remedy) from error
    finally:
        partial.unlink(missing_ok=True)
