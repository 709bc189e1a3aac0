"""docs/evidence.md, as text."""

from __future__ import annotations

from collections.abc import Iterator

from studies.evidence.claim import Claim, Finding, Measure, System, Verdict, together
from studies.evidence.composition import EVERLONG
from studies.evidence.engram import ENGRAM
from studies.evidence.hnet import HNET
from studies.evidence.infini import INFINI
from studies.evidence.kept import Kept
from studies.evidence.longnet import LONGNET
from studies.evidence.mamba import MAMBA
from studies.evidence.megabyte import MEGABYTE
from studies.evidence.mixture_of_depths import MIXTURE_OF_DEPTHS

SYSTEMS: tuple[System, ...] = (LONGNET, INFINI, MIXTURE_OF_DEPTHS, MEGABYTE, MAMBA, HNET, ENGRAM, EVERLONG)

LEAD = """\
# Evidence

What the papers say in their headlines, and what was found here; at the end, what this library says of its own preset.
The page is written by `python -m studies.evidence` from the results that are kept in `benchmarks/results` and
`studies/results`; every verdict follows from them by the rule that stands beside it, and none is typed in.

All models here are far smaller than those of the papers; each entry tells its scale, and a verdict is one of that
scale: *confirmed* and *refuted* say what these models do, and nothing of the paper's own; *not at this scale* says that
they cannot tell. Intervals are those of [the lab](lab.md), over seeds and documents, where bits per byte are compared,
and quartiles where times are. A claim that was measured in several ways is *partly* confirmed where some of them
confirm it.
"""


def page(kept: Kept) -> str:
    """The whole page."""
    found = [(system, claim, list(map(_judged(kept), claim.measures))) for system in SYSTEMS for claim in system.claims]
    rows = [f"| {s.name} | [{c.title}](#{_anchor(s, c)}) | {_verdict(f)} |" for s, c, f in found]
    parts = [LEAD, "\n".join(["| system | claim | verdict |", "|---|---|---|", *rows])]
    for system in SYSTEMS:
        parts.append(f"## {system.name}\n\n{system.source}; [{system.page}]({system.page}).")
        parts += ["\n\n".join(_claim(s, c, f)) for s, c, f in found if s is system]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def _judged(kept: Kept):
    def judged(measure: Measure) -> tuple[Measure, Finding | None]:
        return measure, measure.judge(kept)

    return judged


def _verdict(found: list[tuple[Measure, Finding | None]]) -> Verdict:
    return together([Verdict.NOT_MEASURED if finding is None else finding.verdict for _, finding in found])


def _title(system: System, claim: Claim) -> str:
    return f"{system.name}: {claim.title[0].lower()}{claim.title[1:]}"


def _anchor(system: System, claim: Claim) -> str:
    """As GitHub and MyST make it."""
    kept = (letter for letter in _title(system, claim).lower() if letter.isalnum() or letter in " -_")
    return "".join(kept).replace(" ", "-")


def _claim(system: System, claim: Claim, found: list[tuple[Measure, Finding | None]]) -> Iterator[str]:
    yield f"### {_title(system, claim)}"
    yield f"{system.says}: {claim.paper}. Verdict: **{_verdict(found)}**."
    for measure, finding in found:
        yield "\n".join(_measure(measure, finding))


def _measure(measure: Measure, finding: Finding | None) -> Iterator[str]:
    yield f"- {measure.question}"
    if finding is None:
        yield "  **Not measured yet**; it would be by:"
    else:
        yield f"  **{str(finding.verdict).capitalize()}**: {finding.told}."
        yield f"  Scale: {finding.scale}. Measured by:"
    yield ""
    yield from (f"      {command}" for command in measure.commands)
    yield ""
    yield f"  Rule: {measure.rule}."
