"""`everlong report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro

from everlong.cli.tables import note, say
from everlong.evaluate import figure
from everlong.lab.report import write_report
from everlong.lab.statistics import require

Folder = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")]


def report(folder: Folder, /) -> None:
    """Write the report of a study, as one HTML page and as Markdown.

    FOLDER is where `everlong compare` has run a study, finished or not, or where its results.json was put. Equal
    results give equal bytes. Of an unfinished study it tells what there is, and what is missing.

    For example:
      everlong report runs/baselines
      everlong report studies/results/baselines

    Args:
        folder: a study's folder, or one with a results.json
    """
    require()
    figure.require()
    results = write_report(folder)
    for each in results.missing:
        note(f"missing: {each['cell']} ({each['error'] or each['state']})")
    say(str(folder / "report.html"))
