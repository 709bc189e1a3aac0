"""`everlong score`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from everlong.cli.arguments import InputFile, RunPath, check_new, file_size, load
from everlong.cli.tables import show
from everlong.core.config import check
from everlong.data.progress import progress
from everlong.evaluate import Stretches, figure, plots
from everlong.generate import Totals, write_jsonl, write_npy
from everlong.generate import score as scored


def score(
    run: RunPath,
    file: InputFile,
    /,
    *,
    jsonl: Path | None = None,
    npy: Path | None = None,
    plot: Path | None = None,
    context: int | None = None,
    force: bool = False,
) -> None:
    """Tell how surprised a model is by every byte of a file.

    The file is read as one document of any length, in constant memory if the model's state is constant. Totals are
    printed. Every token's surprisal in bits can be written too, with its place in the file, its bytes and its id.

    For example:
      everlong score runs/demo setup.py
      everlong score runs/demo server.log --jsonl surprisal.jsonl --plot surprisal.svg

    Args:
        run: the folder of a run
        file: the file; its bytes are scored as they stand
        jsonl: write a JSON object a token to this file
        npy: write a NumPy array, one record a token, to this file
        plot: draw surprisal along the file, as .svg or .png
        context: tokens after which the model begins anew; as many as it can take if not given
        force: replace files that exist
    """
    check(jsonl is None or npy is None, "npy", str(npy), "goes without --jsonl: choose one")
    check_new(jsonl, npy, plot, force=force)
    if plot:
        figure.require(plot)
    size = file_size(file)
    check(size > 0, "file", str(file), "is empty: there is nothing to score")
    loaded = load(run)
    pieces = scored(loaded.model, loaded.codec, file, context=context)
    totals, stretches = _summed(_written(pieces, jsonl, npy), size)
    if plot:
        figure.save(plots.surprisal(stretches.finish(), file.name), plot)
    show((">bytes", ">tokens", ">bits", ">bits per byte", ">as a code"), [_row(totals)])


def _written(pieces: Iterator[np.ndarray], jsonl: Path | None, npy: Path | None) -> Iterator[np.ndarray]:
    """The pieces, which are written on their way where that is asked for."""
    if jsonl:
        return write_jsonl(pieces, jsonl)
    return write_npy(pieces, npy) if npy else pieces


def _summed(pieces: Iterator[np.ndarray], size: int) -> tuple[Totals, Stretches]:
    totals, stretches = Totals(), Stretches(size)
    with progress("scoring", size) as advance:
        for piece in pieces:
            totals.add(piece)
            stretches.add(piece)
            advance(float(piece["length"].sum()))
    return totals, stretches


def _row(totals: Totals) -> tuple[str, ...]:
    share = f"{totals.bits_per_byte / 8:.1%} of its size"
    return f"{totals.bytes:,}", f"{totals.tokens:,}", f"{totals.bits:,.0f}", f"{totals.bits_per_byte:.4f}", share
