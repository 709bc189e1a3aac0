"""`everlong inspect`."""

from __future__ import annotations

from pathlib import Path

from everlong.cli.arguments import RunPath, check_new, load, read
from everlong.cli.tables import say
from everlong.core.errors import DataError
from everlong.evaluate.fired import fired, fired_table
from everlong.evaluate.gates import gates_over_training
from everlong.evaluate.inspect import inspect as inspected
from everlong.evaluate.inspect import inspection_report
from everlong.evaluate.output import write_text
from everlong.train import read_records
from everlong.train.run import METRICS


def inspect(
    run: RunPath,
    /,
    *,
    text: Path,
    out: Path = Path("inspection.html"),
    bytes: int = 4000,
    force: bool = False,
) -> None:
    """Show a text as a model sees it: surprisal, chunks, routed positions, gates.

    One HTML page, in which every byte is coloured by its surprisal. Where the model has them, it also shows where
    chunks are opened and how sure that was, which positions Mixture-of-Depths routes, and what gates let in; of
    Infini-attention, how far its gates were open over training (extra `report`); of n-gram memory, which n-grams open
    its gates most.

    For example:
      everlong inspect runs/hnet --text README.md

    Args:
        run: the folder of a run
        text: the file whose beginning is shown
        out: the page
        bytes: how much of the file is shown, at most
        force: replace a page that exists
    """
    if bytes < 1:
        raise DataError("bytes", bytes, "must be at least 1")
    check_new(out, force=force)
    data = read(text)[:bytes]
    loaded = load(run)
    found = inspected(loaded.model, loaded.codec, data)
    told = loaded.path / METRICS  # which only its training needs
    gates = gates_over_training(loaded.model, read_records(told) if told.is_file() else [])
    ngrams = fired_table(fired(loaded.model, loaded.codec, data), loaded.codec)
    write_text(out, inspection_report(found, text.name, str(run), [*gates, *ngrams]))
    say(f"{len(data):,} bytes at {found.bits_per_byte:.3f} bits per byte: {out}")
