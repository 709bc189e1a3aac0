"""A study's report: one HTML page that needs nothing else, and the same as Markdown with its figures beside it.

Both are made from FOLDER/results.json alone, so equal results give equal bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import yaml

from everlong.core.errors import DataError
from everlong.evaluate.figure import inline_svg, save
from everlong.evaluate.output import write_text
from everlong.evaluate.report import Figure, Headline, Listing, Table, render
from everlong.lab import plots
from everlong.lab.answers import answers
from everlong.lab.laws import scaling
from everlong.lab.markdown import Drawing, Piece, markdown
from everlong.lab.not_matched import not_matched
from everlong.lab.observed import observed
from everlong.lab.plan import PLAN
from everlong.lab.results import Group, Results, collect, difference, load
from everlong.lab.statistics import CONFIDENCE, Interval
from everlong.train.console import si

TOKENS = (
    " All read the tokens of {}: what is told by the byte is by the token here, but for bits per byte, bytes seen and "
    "bytes/s."
)

HTML, MARKDOWN, FIGURES = "report.html", "report.md", "figures"


def write_report(folder: Path) -> Results:
    """Writes the report of a study into its folder, or of committed results into theirs.

    Raises:
        DataError: there are no results, they are damaged, or not one reported cell is finished.
        ConfigError: the extra `report` is not installed.
    """
    if (folder / PLAN).is_file():
        collect(folder)
    results = load(folder)
    if not any(group.runs for group in results.groups):
        raise DataError("results", str(folder), f"hold no reported cell yet ({_state(results)}): run the study again")
    pieces = list(_pieces(results))
    title, lead = f"Study: {results.study['name']}", _lead(results)
    footer = "Made by `everlong report` from results.json, which holds every number of this page."
    page = render(title, lead, _headlines(results), [_section(piece) for piece in pieces], footer)
    (folder / FIGURES).mkdir(exist_ok=True)
    for piece in pieces:
        if isinstance(piece, Drawing):
            save(piece.figure, folder / FIGURES / f"{piece.slug}.svg")
    write_text(folder / MARKDOWN, markdown(title, lead, pieces, footer))
    write_text(folder / HTML, page)
    return results


def _section(piece: Piece) -> Figure | Listing | Table:
    if isinstance(piece, Drawing):
        return Figure(piece.title, inline_svg(piece.figure, piece.title), piece.caption)
    return piece


def _state(results: Results) -> str:
    first = results.missing[0]
    return f"{len(results.missing)} cells are not finished; {first['cell']}: {first['error'] or first['state']}"


def _lead(results: Results) -> str:
    study = results.study
    names = ", ".join(architecture["name"] for architecture in study["architectures"])
    labels = " and at ".join(label for label, _ in results.matchings())
    seeds = len(study["seeds"])
    rates, tried = study["learning_rates"], results.groups[0].sweep
    told = f"tried {len(rates)} learning rates on other held-out documents" if tried else f"learnt at {rates[0]:g}"
    unfinished = f" The study is not finished: {_state(results)}." if results.missing else ""
    tokens = "" if study.get("tokenizer") is None else TOKENS.format(study["tokenizer"])
    return (
        f"{names}, at {labels}. Bits per byte of held-out documents after training, less is better; {seeds} seeds, "
        f"paired: the same bytes in the same order. Every architecture {told}.{tokens}{unfinished}"
    )


def _headlines(results: Results) -> list[Headline]:
    _, groups = next(results.matchings())
    found = [(group, group.interval) for group in groups]
    told = [(group, value) for group, value in found if value is not None]
    return [Headline(f"{value.estimate:.3f}", f"{group.name}, bits per byte") for group, value in told]


def _pieces(results: Results) -> Iterator[Piece]:
    if results.missing:
        rows = [(each["cell"], each["state"], each["error"]) for each in results.missing]
        yield Table("What is missing", ("cell", "state", "error"), rows, "The report says what there is without these.")
    for number, (label, groups) in enumerate(results.matchings(), 1):
        yield from _comparison(label, groups, f"{number}-")
    yield from scaling(results)
    yield Listing("Study", _yaml(results.study), "Everything that was asked for.", folded=True)
    models = {f"{g.plan['matching']}: {g.name}": g.plan["model"] for g in results.groups}
    yield Listing("Models", _yaml(models), "The full configuration of every model.", folded=True)
    yield Listing("Seeds and hashes", _yaml(_hashes(results)), "SHA-256 of models and corpus.", folded=True)


def _comparison(label: str, groups: list[Group], prefix: str) -> Iterator[Piece]:
    told = f"At {label}"
    yield _table(told, groups)
    whole = {group.name: value for group in groups if (value := group.interval) is not None}
    if whole:
        drawn = plots.intervals(whole, "bits per byte")
        yield Drawing(f"{told}: bits per byte", drawn, f"With {CONFIDENCE:.0%} intervals.", f"{prefix}intervals")
    yield _differences(told, groups)
    if groups[0].sweep:
        yield _sweep(told, groups)
    finished = [group for group in groups if group.runs]
    if finished:
        yield from _figures(told, finished, prefix)
        yield from answers(told, finished, prefix)
        yield from observed(told, finished)
    yield not_matched(f"{told}: matched and not matched", groups)


def _figures(told: str, groups: list[Group], prefix: str) -> Iterator[Drawing]:
    learning = {group.name: points for group in groups if (points := _learning(group))}
    if learning:
        drawn = plots.lines(learning, "training FLOPs", "bits per byte", 10)
        caption = "On windows of all held-out documents while it learns, mean over the seeds."
        yield Drawing(f"{told}: loss against training FLOPs", drawn, caption, f"{prefix}learning")
    places = {group.name: points for group in groups if (points := _positions(group))}
    if places:
        drawn = plots.lines(places, "place in the context, bytes", "bits per byte", 2)
        caption = "How surprised it is by a byte, given how many it has heard before; mean over the seeds."
        yield Drawing(f"{told}: loss by position in the context", drawn, caption, f"{prefix}positions")


def _table(told: str, groups: list[Group]) -> Table:
    columns = (
        "architecture", "size", "parameters", "without embedding", "FLOPs per byte", "state bytes", "bits per byte",
        "interval", "bytes seen", "learning rate", "bytes/s", "peak memory",
    )  # fmt: skip
    caption = (
        f"Parameters by Chinchilla's convention and by Kaplan's; FLOPs of training; state of one stream; intervals of "
        f"{CONFIDENCE:.0%} over seeds and documents. Speed and peak memory of the training process, with its threads, "
        "beside the other cells that ran at the time."
    )
    return Table(told, columns, [_row(group) for group in groups], caption)


def _row(group: Group) -> tuple[str, ...]:
    cost, value = group.plan["cost"], group.interval
    sizes = " ".join(f"{name}={size}" for name, size in group.plan["sizes"].items())
    measured = ("",) * 3
    if group.runs:
        measured = (
            f"{group.mean('bytes_seen'):,.0f}",
            f"{float(group.rate or 0):g}",
            si(group.mean("bytes_per_second")),
        )
    return (
        group.name,
        sizes,
        f"{cost['parameters']:,}",
        f"{cost['non_embedding']:,}",
        f"{cost['flops_per_byte']:,.0f}",
        f"{cost['state_bytes']:,}",
        "not finished" if value is None else f"{value.estimate:.4f}",
        "" if value is None else _within(value),
        *measured,
        f"{group.mean('peak_memory') / 2**20:,.0f} MiB" if group.runs else "",
    )


def _differences(told: str, groups: list[Group]) -> Table:
    pairs = list(combinations(groups, 2))
    rows = []
    for one, other in pairs:
        value = difference(one, other)
        found = ("not finished", "", "") if value is None else (f"{value.estimate:+.4f}", _within(value), value.verdict)
        rows.append((f"{one.name} less {other.name}", *found))
    caption = (
        f"Bits per byte of the one less those of the other, on the same seeds and documents. Each interval covers the "
        f"truth in {CONFIDENCE:.0%} of studies by itself; of {len(pairs)} that hold 0 in truth, one may well miss it."
    )
    return Table(f"{told}: differences", ("pair", "difference", "interval", "verdict"), rows, caption)


def _sweep(told: str, groups: list[Group]) -> Table:
    rates = list(groups[0].sweep)
    rows = []
    for group in groups:
        trials = [_trial(group.sweep[rate], chosen=rate == group.rate) for rate in rates]
        rows.append((group.name, *trials, "at the edge: a better one may lie beyond" if group.edge else ""))
    caption = "Bits per byte on the selection half, of one seed that is not reported. The chosen one is marked with *."
    return Table(f"{told}: learning rates", ("architecture", *(f"{float(r):g}" for r in rates), ""), rows, caption)


def _trial(trial: dict[str, Any], *, chosen: bool) -> str:
    return f"{trial['loss']:.4f}{' *' if chosen else ''}" if "loss" in trial else trial["state"]


def _learning(group: Group) -> plots.Points:
    curves = [run["learning"] for run in group.runs.values()]
    flops = group.plan["cost"]["flops_per_byte"]
    rows = [list(zip(*looks, strict=True)) for looks in zip(*curves, strict=True)]
    return [(flops * sum(seen) / len(seen), sum(bits) / len(bits)) for seen, bits in rows]


def _positions(group: Group) -> plots.Points:
    found = [run["by_position"] for run in group.runs.values() if "by_position" in run]
    if not found:
        return []
    means = [sum(bits) / len(bits) for bits in zip(*(each["bits_per_byte"] for each in found), strict=True)]
    return list(zip(map(float, found[0]["ends"]), means, strict=True))


def _hashes(results: Results) -> dict[str, Any]:
    runs = {g.plan["matching"]: {} for g in results.groups}
    for group in results.groups:
        told = ("model", "corpus", "steps", "flops", "threads", "versions")
        runs[group.plan["matching"]][group.name] = {
            seed: {name: run[name] for name in told} for seed, run in group.runs.items()
        }
    return runs


def _within(value: Interval) -> str:
    return f"{value.low:+.4f} to {value.high:+.4f}" if value.low < 0 else f"{value.low:.4f} to {value.high:.4f}"


def _yaml(values: Any) -> str:
    class Plain(yaml.SafeDumper):
        """Writes equal values out, and no anchors."""

        def ignore_aliases(self, data: Any) -> bool:
            return True

    return yaml.dump(values, Dumper=Plain, sort_keys=False, width=100)
