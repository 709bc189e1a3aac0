"""Infini-attention's claims."""

from __future__ import annotations

import torch

import everlong
from everlong.evaluate.suites.measured import wilson
from everlong.model.presets.infini import UPDATES
from everlong.sequence.infini import InfiniAttention
from studies.evidence.claim import Claim, Finding, Measure, System, Verdict
from studies.evidence.kept import Kept, machine
from studies.evidence.rules import STEADY, constant
from studies.passkey_runs import Run, alike, is_plain, pooled

MEMORIZING, TIMES = 183e6, 114
"""Numbers that Memorizing Transformers keep, and how many times those of the paper's memory (Table 2)."""
RECALLED = 0.94
"""The lowest share of tokens that the paper's models retrieve at a million after fine-tuning (Table 3)."""
MILLION = 10**6
SHARE = 0.01
"""Of what a cache of all keys and values would hold: growth below it counts as none."""


def memory(kept: Kept) -> Finding:
    """Counted in the paper's own model."""
    with torch.device("meta"):
        model = everlong.build("infini:paper")
    numbers = sum(part.memory_floats for part in model.modules() if isinstance(part, InfiniAttention))
    times = MEMORIZING / numbers
    verdict = Verdict.CONFIRMED if abs(times / TIMES - 1) < 0.05 else Verdict.REFUTED
    return Finding(verdict, f"{numbers:,} numbers, {times:.0f} times fewer", "the paper's shape, `infini:paper`")


def stream(kept: Kept) -> Finding | None:
    """Memory and time over a long stream."""
    if (found := kept.benchmark("infini")) is None:
        return None
    seen = found["results"]["stream"]
    with torch.device("meta"):
        cache = everlong.build("transformer:tiny").state_bytes(seen["tokens"])
    grown, slower = seen["growth_bytes"] / cache, constant(seen["last_to_first"])
    verdict = Verdict.CONFIRMED if grown < SHARE and slower is Verdict.CONFIRMED else Verdict.REFUTED
    told = (
        f"a state of {seen['state_bytes']:,} bytes; the process grew by {grown:.2%} of the {cache:,} bytes that a "
        "cache of "
        f"`transformer:tiny` would hold; the last tenth took {seen['last_to_first']:.2f} times the first"
    )
    return Finding(verdict, told, f"`infini:tiny` over {seen['tokens']:,} tokens; {machine(found)}")


def passkey(kept: Kept) -> Finding | None:
    """The update that recalls the farthest, all its seeds together."""
    kinds = alike(run for run in kept.files("studies/results/passkey/*-seed*.json") if is_plain(run))
    if not kinds:
        return None
    runs = max(kinds, key=lambda kind: (_reach(pooled(kind)), _at(pooled(kind), _longest(pooled(kind)))))
    best = pooled(runs)
    trained, reach, longest = _trained(best), _reach(best), _longest(best)
    verdict = Verdict.NOT_HERE
    if reach >= MILLION:
        verdict = Verdict.CONFIRMED
    elif reach >= 8 * trained:
        verdict = Verdict.PARTLY
    found = next(each for each in best["accuracy"] if each["length"] == longest)
    texts = len(found["exact"]) * found["rows"]
    low, high = wilson(round(sum(found["exact"].values()) * found["rows"]), texts)
    told = (
        f"`{best['settings']['update']}`, trained up to {trained:,} symbols, recalls {RECALLED:.0%} of the digits or "
        "more "
        f"at every depth up to {reach:,}; at {longest:,} the whole key in {low:.0%} to {high:.0%} of texts"
    )
    seeds = "1 seed" if len(runs) == 1 else f"{len(runs)} seeds"
    scale = f"{best['parameters']:,} parameters, {seeds}, symbols, a haystack that repeats"
    return Finding(verdict, told, f"{scale}; {texts} texts")


def _trained(run: Run) -> int:
    """The longest text of training."""
    return max(stage["segments"][1] for stage in run["settings"]["stages"]) * run["settings"]["segment"]


def _at(run: Run, length: int) -> float:
    """Digits recalled, at the worst depth."""
    return min(next(each for each in run["accuracy"] if each["length"] == length)["digits"].values())


def _longest(run: Run) -> int:
    return max(each["length"] for each in run["accuracy"])


def _reach(run: Run) -> int:
    """The greatest length up to which enough is recalled."""
    reach = 0
    for length in sorted(each["length"] for each in run["accuracy"]):
        if _at(run, length) < RECALLED:
            break
        reach = length
    return reach


INFINI = System(
    "Infini-Transformer",
    "arXiv 2404.07143",
    "infini.md",
    (
        Claim(
            "114 times smaller memory",
            "1.6M numbers, where Memorizing Transformers keep 183M (Table 2)",
            (
                Measure(
                    "How large is the memory of the paper's model?",
                    ("everlong describe infini:paper",),
                    f"confirmed if {MEMORIZING / 1e6:.0f}M numbers are {TIMES} times as many, within 5 %; of quality "
                    "it "
                    "says nothing",
                    memory,
                ),
            ),
        ),
        Claim(
            "Constant state",
            "a memory of E (E + 1) numbers a head at any length (Table 1)",
            (
                Measure(
                    "Do memory and time a token stay the same over a million tokens?",
                    ("python -m benchmarks infini",),
                    f"confirmed if the process grows by less than {SHARE:.0%} of a full cache and the last tenth "
                    "takes at "
                    f"most {STEADY} times the first, else refuted",
                    stream,
                ),
            ),
        ),
        Claim(
            "A passkey in a million tokens after short training",
            "94 to 100 % of tokens at 1M after 400 steps at 5K, linear; 100 % with delta (Table 3)",
            (
                Measure(
                    "How far beyond the length of training is a key recalled?",
                    tuple(f"python -m studies.passkey --update {update}" for update in UPDATES),
                    f"by the best update: confirmed if {RECALLED:.0%} of the digits or more are recalled at every "
                    "depth "
                    "and length up to 1e6; partly, up to eight times the longest text of training; else not at this "
                    "scale",
                    passkey,
                ),
            ),
        ),
    ),
)
