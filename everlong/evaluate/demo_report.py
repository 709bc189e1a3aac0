"""The demo's report: what was learnt, how well, and how it was checked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import yaml

from everlong.core.accounting import parameter_count
from everlong.evaluate.demo import Findings, Settings
from everlong.evaluate.figure import inline_svg
from everlong.evaluate.plots import by_position, comparison, loss_curve
from everlong.evaluate.report import Figure, Headline, Listing, Section, Table, render
from everlong.train import Record, read_records
from everlong.train.run import METRICS

OWN = "Everlong"
PRIMED = "xz after the training files"


def demo_report(findings: Findings, settings: Settings) -> str:
    """The HTML of the report."""
    held_out = findings.held_out
    lead = (
        f"A {settings.preset.partition(':')[0]} model of {parameter_count(findings.run.model):,} parameters read "
        f"{findings.training.bytes_seen / 1e6:.1f} MB of Python source code, byte by byte, in "
        f"{findings.training.seconds:.0f} seconds. Then it predicted {held_out.documents} files that it had never "
        f"seen, {held_out.bytes / 1e3:.0f} kB."
    )
    footer = "Made by `everlong demo`. This page needs no network; the numbers behind it are in summary.json."
    return render(
        "Everlong learns Python", lead, list(_headlines(findings)), list(_sections(findings, settings)), footer
    )


def _headlines(findings: Findings) -> Iterator[Headline]:
    held_out, solid, trip = findings.held_out, findings.rivals.solid, findings.trip
    yield Headline(f"{held_out.bits_per_byte:.3f}", "bits per byte, unseen files", best=True)
    yield Headline(f"{solid['xz']:.3f}", "xz, all files in one piece")
    yield Headline(f"{solid['gzip']:.3f}", "gzip, all files in one piece")
    yield Headline(f"{findings.rivals.xz_primed:.3f}", PRIMED)
    yield Headline("exact" if trip.restored else "FAILED", "lossless round trip")
    yield Headline(f"{findings.training.seconds:.0f} s", "of training")


def _sections(findings: Findings, settings: Settings) -> Iterator[Section]:
    yield _learning(findings)
    yield from _compressors(findings)
    yield _positions(findings)
    yield _round_trip(findings)
    sampling = settings.sampling
    told = f"What it writes after the bold text, at temperature {sampling.temperature:g} and top-p {sampling.top_p:g}."
    yield Listing("A sample", findings.sample, told, given=settings.prompt)
    plain = yaml.safe_dump(findings.run.config.to_dict(), sort_keys=False, width=100)
    yield Listing("Configuration", plain, "Everything that the run follows from.", folded=True)


def _learning(findings: Findings) -> Figure:
    training, validation = _curves(read_records(findings.run.path / METRICS))
    svg = inline_svg(loss_curve(training, validation, findings.rivals.solid), "Bits per byte against training bytes")
    caption = (
        "Bits per byte while it learns: single records in grey, their running mean in colour, and windows of held-out "
        "files, without any context before them, as dots. Dashed: other compressors on the held-out files in one piece."
    )
    return Figure("Learning", svg, caption)


def _compressors(findings: Findings) -> Iterator[Section]:
    held_out, rivals = findings.held_out, findings.rivals
    values = {OWN: held_out.bits_per_byte, **rivals.solid}
    if rivals.xz_primed is not None:
        values[PRIMED] = rivals.xz_primed
    caption = (
        "Bits per byte on the same files; less is better. The model reads every file alone, from its beginning. The "
        "others get all files in one piece, which suits them; the last one has compressed the training files first."
    )
    yield Figure("Against compressors", inline_svg(comparison(values, OWN), "Bits per byte of compressors"), caption)
    rows = [(name, f"{each:.3f}", f"{rivals.solid[name]:.3f}") for name, each in rivals.each.items()]
    own = f"{held_out.bits_per_byte:.3f} ± {held_out.standard_error or 0:.3f}"
    told = "With the standard error over files. File by file, headers count as they would on disk."
    yield Table("In numbers", ("", "each file alone", "in one piece"), [(OWN, own, ""), *rows], told)


def _positions(findings: Findings) -> Figure:
    svg = inline_svg(by_position(findings.held_out.by_position), "Bits per byte against the place in the document")
    caption = (
        "How surprised it is by a byte, given how many it has read before; the band is one standard error over files."
    )
    return Figure("Bits per byte by position", svg, caption)


def _round_trip(findings: Findings) -> Table:
    trip = findings.trip
    restored = "and came back exactly." if trip.restored else "and did NOT come back."
    told = f"{findings.file} was compressed by arithmetic coding with the model, {restored} Headers are included."
    row = (f"{trip.bytes:,}", f"{trip.compressed:,}", f"{trip.xz:,}")
    return Table("Round trip", ("bytes", OWN, "xz"), [row], told)


def _curves(records: Sequence[Record]) -> tuple[dict[float, float], dict[float, float]]:
    """Bits per byte by bytes seen, of training and of held-out windows."""
    seen = {float(r["step"]): float(r["bytes_seen"]) for r in records if r["kind"] == "train"}
    training = {float(r["bytes_seen"]): float(r["bits_per_byte"]) for r in records if r["kind"] == "train"}
    looks = {float(r["step"]): float(r["bits_per_byte"]) for r in records if r["kind"] == "validation"}
    places = np.interp(list(looks), list(seen), list(seen.values())).tolist()
    return training, dict(zip(places, looks.values(), strict=True))
