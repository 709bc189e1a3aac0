"""Whether learned chunks reach the length that is asked for, and keep it: the report of kept training records.

    everlong train hnet:nano --override outer_width=64 layers=4 width=64 heads=2 hidden=192 bytes_per_chunk=5 \
        --optimizer muon --optimizer.learning-rate 0.006 --steps 400 --batch 8 --out runs/rate-code
    cp runs/rate-code/metrics.jsonl studies/results/chunk_rate/code-5.jsonl
    python -m studies.chunk_rate

A file is called by its corpus and what was asked for: `--data dictionary` for text, `--data chr22` for dna; with
`ratio_weight=0.1` text.weight0.1.
"""

from __future__ import annotations

import statistics
from pathlib import Path

from everlong.evaluate.figure import save
from everlong.evaluate.output import write_text
from everlong.evaluate.report import Table
from everlong.lab.markdown import Drawing, markdown
from everlong.lab.plots import lines
from everlong.train import read_records

FOLDER = Path("studies/results/chunk_rate")
LAST = 0.25
"""The share of the updates, the last ones, over which a rate is told."""


def main(folder: Path = FOLDER) -> None:
    """Writes the report beside the records."""
    rates = {path.stem: _rates(path) for path in sorted(folder.glob("*.jsonl"))}
    curves = {name: list(points.items()) for name, points in rates.items()}
    figure = lines(curves, "updates", "bytes a chunk", 2)
    drawn = Drawing("Bytes a chunk, drawn", figure, "Mean of ten updates.", "rates")
    (folder / "figures").mkdir(exist_ok=True)
    save(figure, folder / "figures" / f"{drawn.slug}.svg")
    lead = "Learned chunks of one-stage H-Nets in training; each run has one seed. Runs are named by corpus and target."
    table = Table(
        "Bytes a chunk",
        ("run", "target", "last quarter, mean", "lowest", "highest", "mean against target"),
        [_row(name, list(points.values())) for name, points in rates.items()],
        f"Over the last {LAST:.0%} of the updates.",
    )
    write_text(folder / "report.md", markdown("Chunk rate", lead, [table, drawn], "Made by `studies.chunk_rate`."))


def _rates(path: Path) -> dict[int, float]:
    """Bytes a chunk by the updates made."""
    return {int(r["step"]): r["chunks/positions"] for r in read_records(path) if r["kind"] == "train"}


def _row(name: str, rates: list[float]) -> tuple[str, ...]:
    target, last = float(name.rpartition("-")[2]), rates[-round(LAST * len(rates)) :]
    mean = statistics.harmonic_mean(last)  # all bytes by all chunks
    return name, f"{target:g}", f"{mean:.2f}", f"{min(last):.2f}", f"{max(last):.2f}", f"{mean / target - 1:+.0%}"


if __name__ == "__main__":
    main()
