"""The lab: fair comparisons of architectures, from one file and by one command.

study = load_study("studies/baselines.py")
plan = make_plan(study)                            # sizes, costs, steps; nothing is trained
run_grid(plan, folder, watch, threads=1)           # every cell in a folder of its own; goes on where it was stopped
results = write_report(folder)                     # results.json, report.html, report.md
"""

from everlong.lab.grid import Watch, run_grid, threads_each
from everlong.lab.matching import EqualFlops, EqualParameters, EqualState, EqualTime, Matching
from everlong.lab.metrics import HeldOut
from everlong.lab.plan import Plan, make_plan
from everlong.lab.questions import Questions
from everlong.lab.report import write_report
from everlong.lab.results import Results
from everlong.lab.statistics import Interval, interval
from everlong.lab.study import Architecture, Study, TrainingBytes, TrainingFlops, load_study

__all__ = [
    "Architecture",
    "EqualFlops",
    "EqualParameters",
    "EqualState",
    "EqualTime",
    "HeldOut",
    "Interval",
    "Matching",
    "Plan",
    "Questions",
    "Results",
    "Study",
    "TrainingBytes",
    "TrainingFlops",
    "Watch",
    "interval",
    "load_study",
    "make_plan",
    "run_grid",
    "threads_each",
    "write_report",
]
