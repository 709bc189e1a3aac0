"""`everlong evaluate`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import tyro

from everlong.cli import suites
from everlong.cli.arguments import RunPath, Sources, check_new, load
from everlong.cli.tables import say, show, with_error
from everlong.core.config import check
from everlong.core.errors import DataError
from everlong.data import Codec, StoreWriter, TokenStore, expand, read_document
from everlong.data.progress import progress
from everlong.evaluate import Baselines, BitsPerByte, ByPosition, baselines, figure, plots
from everlong.evaluate import evaluate as evaluated
from everlong.evaluate.ngrams import MemoryReport, memory_report
from everlong.evaluate.output import write_json
from everlong.train import Run

Lengths = Annotated[tuple[int, ...], tyro.conf.arg(metavar="TOKENS ...")]


def evaluate(
    run: RunPath,
    /,
    *,
    data: Sources = (),
    primed: bool = False,
    memory: bool = False,
    json: Path | None = None,
    plot: Path | None = None,
    batch: int = 16,
    context: int | None = None,
    suite: str = "",
    lengths: Lengths = (1024, 4096),
    examples: int = 50,
    seed: int = 0,
    force: bool = False,
) -> None:
    """Measure bits per byte on documents, against gzip, bz2 and xz.

    Every document is read from its own beginning, on carried state. It prints bits per byte with the standard error
    over documents, the same for each range of positions in the document, and what general compressors need for the
    same bytes: for each document alone, and for all of them in one piece.

    With --suite, it asks the model questions of given lengths instead: passkey, needle, tracking, recall, spelling and
    others, generated from a seed; and prompt-length, robustness and speed. See docs/suites.md for what each asks.

    For example:
      everlong evaluate runs/demo
      everlong evaluate runs/demo --data src/ 'docs/*.md' --json result.json --plot positions.svg
      everlong evaluate runs/demo --suite passkey,recall,induction --lengths 1024 8192 --examples 20

    Args:
        run: the folder of a run
        data: files, folders and globs; the documents that the run held out if none are given
        primed: tell too what xz adds for the documents once it has compressed the run's training bytes, its last
            64 MiB at most; takes a few seconds a megabyte
        memory: measure too what the model is without its n-gram memory, and how n-grams share the memory's rows
        json: write all results to this file
        plot: draw bits per byte by position, or the suites' scores by length, as .svg or .png
        batch: documents that are read side by side
        context: tokens after which the model begins anew; as many as it can take if not given
        suite: suites to measure, separated by commas
        lengths: tokens that a question of a suite may take, its answer included
        examples: questions of each suite at each length
        seed: of the questions
        force: replace files that exist
    """
    check_new(json, plot, force=force)
    if suite:
        check(not primed, "primed", primed, "compares with xz, and suites do not: leave out one of them")
        check(not memory, "memory", memory, "is measured on documents: leave out --suite")
        check(context is None, "context", context, "is that of a question in suites: set --lengths")
        _ask(run, data, suites.asked_for(suite, lengths, examples, seed), json, plot)
    else:
        _compare(run, data, primed, memory, batch, context, json, plot)


def _ask(run: RunPath, data: Sources, asked: suites.Asked, json: Path | None, plot: Path | None) -> None:
    """Measures suites, and opens documents only for those which need some."""
    suites.check_plot(asked, plot)
    loaded = load(run)
    with ExitStack() as opened:
        suites.measure(loaded, asked, lambda: opened.enter_context(_documents(loaded, data)), json, plot)


def _compare(
    run: RunPath,
    data: Sources,
    primed: bool,
    memory: bool,
    batch: int,
    context: int | None,
    json: Path | None,
    plot: Path | None,
) -> None:
    """Measures documents, beside compressors."""
    if plot:
        figure.require(plot)
    loaded = load(run)
    with _documents(loaded, data) as store:
        result = evaluated(loaded.model, store, batch=batch, context=context)
        training = loaded.config.data.open(loaded.codec).train if primed else None
        rivals = baselines(store, training)
        recalled = memory_report(loaded.model, store, batch=batch, context=context) if memory else None
    if json:
        found = {"run": str(run), "step": loaded.step, **asdict(result), "baselines": asdict(rivals)}
        write_json(json, found if recalled is None else {**found, "memory": asdict(recalled)})
    if plot:
        figure.save(plots.by_position(result.by_position), plot)
    show(("by position", ">bytes", ">documents", ">bits per byte"), _positions(result.by_position))
    say()
    show(("bits per byte", ">each alone", ">in one piece"), _comparison(run, result, rivals))
    if recalled is not None:
        say()
        say(f"without its n-gram memory: {with_error(recalled.without, recalled.without_error)} bits per byte")
        columns = ("memory", ">order", ">distinct", ">load", ">rows used", ">share a row", ">in every head", ">hits")
        show(columns, _memories(recalled))


@contextmanager
def _documents(run: Run, sources: Sequence[str]) -> Iterator[TokenStore]:
    """A store of the documents in question."""
    if not sources:
        yield run.config.data.open(run.codec).validation
        return
    files = expand(sources)
    with TemporaryDirectory() as home:
        yield _stored(files, run.codec, Path(home, "documents"))


def _stored(files: Sequence[Path], codec: Codec, folder: Path) -> TokenStore:
    sizes = [file.stat().st_size for file in files]
    with progress("reading data", sum(sizes)) as advance, StoreWriter(folder, codec) as writer:
        for file, size in zip(files, sizes, strict=True):
            if content := read_document(file):
                writer.add(str(file), content)
            advance(float(size))
    if not writer.names:
        raise DataError("data", f"{len(files)} files", "hold no bytes: there is nothing to evaluate")
    return TokenStore.open(folder, codec)


def _positions(positions: ByPosition) -> Iterator[tuple[str, ...]]:
    columns = (positions.bytes, positions.documents, positions.bits_per_byte, positions.standard_error)
    for (first, end), size, reach, value, error in zip(positions.ranges, *columns, strict=True):
        span = f"{first:,}" if end == first + 1 else f"{first:,} - {end - 1:,}"
        yield span, f"{size:,}", f"{reach:,}", with_error(value, error)


def _memories(found: MemoryReport) -> Iterator[tuple[str, ...]]:
    for one in found.occupancy:
        shares = (one.used, one.colliding, one.colliding_everywhere, one.hits)
        load = one.distinct / one.rows
        yield one.memory, f"{one.order}", f"{one.distinct:,}", f"{load:.3g}", *(f"{share:.2%}" for share in shares)


def _comparison(run: Path, result: BitsPerByte, rivals: Baselines) -> Iterator[tuple[str, ...]]:
    yield str(run), with_error(result.bits_per_byte, result.standard_error), ""
    for name, each in rivals.each.items():
        yield name, f"{each:.3f}", f"{rivals.solid[name]:.3f}"
    if rivals.xz_primed is not None:
        yield "xz after the training bytes", "", f"{rivals.xz_primed:.3f}"
    yield f"({result.documents:,} documents, {result.bytes:,} bytes)", "", ""
