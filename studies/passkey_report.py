"""The tables and figures of the passkey study, from the kept runs alone: `python -m studies.passkey_report` writes
studies/results/passkey/report.md and figures/."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import tyro
from rich.console import Console

from everlong.evaluate import plots
from everlong.evaluate.figure import save
from everlong.evaluate.output import write_text
from everlong.evaluate.report import Table
from everlong.lab.markdown import Drawing, Piece, markdown
from everlong.lab.plots import lines
from studies.passkey_runs import Run, alike, is_plain, mean_digits, pooled

FOLDER = Path("studies/results/passkey")


def write(folder: Path = FOLDER) -> Path:
    """Writes the report of a folder of runs beside them; returns its path."""
    runs = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    found = list(pieces(runs))
    (folder / "figures").mkdir(exist_ok=True)
    for piece in found:
        if isinstance(piece, Drawing):
            save(piece.figure, folder / "figures" / f"{piece.slug}.svg")
    lead = (
        "Four digits, said once in a haystack of symbols and asked for at the end, through the memory alone. Shares of "
        f"digits that are right, each after the right ones before it; chance is a tenth. The longest text of training "
        f"has {_training_length(runs[0]):,} symbols."
    )
    path = folder / "report.md"
    write_text(path, markdown("Passkey", lead, found, "Made by `python -m studies.passkey_report`."))
    return path


def pieces(runs: Sequence[Run]) -> Iterator[Piece]:
    """Tables and figures; of no kind of run that there is none of."""
    whole = [run for run in runs if run["settings"]["ablation"] == "none"]
    plain = [kind for kind in alike(whole) if is_plain(kind[0])]
    yield _by_length("Digits by length", whole)
    curves = {kind[0]["settings"]["update"]: _points(pooled(kind)) for kind in plain}
    caption = "One key in a haystack that repeats itself; mean over three depths of the key, and over seeds."
    yield Drawing("Digits by length, drawn", lines(curves, "symbols", "digits that are right", 2), caption, "lengths")
    yield _by_depth(whole)
    for first, *_ in plain:
        name = first["settings"]["update"]
        step_S = [told["step"] for told in first["curve"]]
        drawn = plots.gates(step_S, np.array([told["gates"] for told in first["curve"]]))
        yield Drawing(f"Gates of {name}", drawn, "sigmoid(beta) of every head over training.", f"gates-{name}")
    ablated = [run for run in runs if run not in whole]
    if ablated:
        yield _by_length("Ablations", ablated)
    yield _costs(runs)


def _by_length(title: str, runs: Sequence[Run]) -> Table:
    lengths = sorted({length for run in runs for length in mean_digits(run)})
    rows = [
        (name, *(_percent(mean_digits(run).get(length)) for length in lengths), _gates(run))
        for name, run in _with_means(runs)
    ]
    caption = (
        "Mean over the depths of the key; and between what the gates ended, over layers and heads. *All seeds*: their "
        "texts together, and the gates of the first."
    )
    return Table(title, ("run", *(f"{length:,}" for length in lengths), "gates"), rows, caption)


def _with_means(runs: Sequence[Run]) -> Iterator[tuple[str, Run]]:
    """Runs with their names; behind those that are alike, all of them together."""
    for kind in alike(runs):
        yield from ((_name(run), run) for run in kind)
        if len(kind) > 1:
            yield f"{_name(kind[0])}, all seeds", pooled(kind)


def _by_depth(runs: Sequence[Run]) -> Table:
    rows = [
        (_name(run), f"{each['length']:,}", *map(_percent, each["digits"].values()), f"{each['rows']}")
        for run in runs
        for each in run["accuracy"]
    ]
    caption = "Where the key stands, and how many texts of four digits each number is the share of."
    return Table("Digits by depth", ("run", "symbols", *runs[0]["accuracy"][0]["digits"], "texts"), rows, caption)


def _costs(runs: Sequence[Run]) -> Table:
    rows = [
        (
            _name(run),
            f"{run['parameters']:,}",
            f"{run['compressive_floats']:,}",
            f"{run['curve'][-1]['step']:,}",
            f"{run['curve'][-1]['cpu_seconds']:.0f}",
            f"`{run['command']}`",
        )
        for run in runs
    ]
    columns = ("run", "parameters", "numbers of memory", "updates", "CPU seconds of training", "command")
    return Table("Runs", columns, rows, "CPU seconds beside other work.")


def _name(run: Run) -> str:
    """What of a run is not as usual."""
    settings = run["settings"]
    told = [settings["update"]]
    told += [settings["ablation"]] if settings["ablation"] != "none" else []
    told += ["random haystack"] if settings["haystack"] == "random" else []
    told += [f"{settings['keys']} keys"] if settings["keys"] > 1 else []
    told += [f"seed {settings['seed']}"] if settings["seed"] else []
    return ", ".join(told)


def _points(run: Run) -> list[tuple[float, float]]:
    return [(float(length), share) for length, share in mean_digits(run).items()]


def _gates(run: Run) -> str:
    last = np.array(run["curve"][-1]["gates"])
    return f"{last.min():.2f} to {last.max():.2f}"


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.1%}"


def _training_length(run: Run) -> int:
    settings = run["settings"]
    return max(stage["segments"][1] for stage in settings["stages"]) * settings["segment"]


if __name__ == "__main__":
    Console(stderr=True, highlight=False).print(str(tyro.cli(write)))
