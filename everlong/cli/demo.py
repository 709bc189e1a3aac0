"""`everlong demo`."""

from __future__ import annotations

import shutil
from pathlib import Path

from everlong.cli.tables import note, say, show, with_error
from everlong.core.errors import CompressionError
from everlong.evaluate import figure
from everlong.evaluate.demo import DEMO, Findings, run_demo
from everlong.evaluate.demo_report import demo_report
from everlong.evaluate.output import write_json, write_text
from everlong.train.run import CONFIG, read_run


def demo(*, minutes: float = 2.5, out: Path = Path("runs/demo"), anew: bool = False) -> None:
    """Train, evaluate, compress and report, in about five minutes on two cores.

    A model of bytes learns the standard library's sources. Then it is measured on files that it has not seen, against
    gzip, bz2 and xz; it compresses one of them and restores it; it writes a sample; and all of that goes into OUT,
    as report.html and summary.json. The same command goes on with a demo that was interrupted, and looks again at
    one that is finished.

    For example:
      everlong demo
      everlong demo --minutes 20 --out runs/long

    Args:
        minutes: how long to train; the number of steps is fixed at the beginning
        out: the folder of the run and the report
        anew: remove the run that is there, and begin again
    """
    figure.require()
    if anew and (out / CONFIG).is_file():
        read_run(out)  # what is no whole run is not ours to remove
        shutil.rmtree(out)
    if (out / CONFIG).is_file():
        note(f"{out} holds a demo: going on with it (--anew begins again)")
    findings = run_demo(DEMO, out, minutes=minutes)
    write_json(out / "summary.json", findings.summary())
    write_text(out / "report.html", demo_report(findings, DEMO))
    _print(findings)
    say(f"\n{out / 'report.html'}")
    if not findings.trip.restored:
        raise CompressionError("roundtrip", findings.file, "did not come back: this is a defect; please report it")


def _print(findings: Findings) -> None:
    held_out, rivals, trip = findings.held_out, findings.rivals, findings.trip
    rows = [("everlong", with_error(held_out.bits_per_byte, held_out.standard_error), "")]
    rows += [(name, f"{each:.3f}", f"{rivals.solid[name]:.3f}") for name, each in rivals.each.items()]
    rows.append(("xz after the training files", "", f"{rivals.xz_primed:.3f}"))
    show((f"bits per byte of {held_out.documents} unseen files", ">each alone", ">in one piece"), rows)
    outcome = "restored exactly" if trip.restored else "NOT RESTORED"
    say(f"\n{findings.file}: {trip.bytes:,} bytes -> {trip.compressed:,} (xz {trip.xz:,}), {outcome}")
