"""Engram's claims."""

from __future__ import annotations

import math

import numpy as np

from studies.evidence.claim import Claim, Finding, Measure, System, Verdict
from studies.evidence.kept import Kept, machine, models
from studies.evidence.rules import LOWER, fewer_bits, less, over_seeds, sign

OVERHEAD = 0.03
QUESTIONS = "needle-queries"


def allocation(kept: Kept) -> Finding | None:
    """The best share of experts between none and all, against both ends."""
    results, groups = kept.study("engram"), kept.groups("engram")
    inner = [group for name, group in groups.items() if name.startswith("experts_")]
    if results is None or not inner or not {"experts", "memory"} <= set(groups):
        return None
    best = min(inner, key=lambda group: group.interval.estimate if group.interval else float("inf"))
    found = [pair for end in ("experts", "memory") if (pair := less(best, groups[end])) is not None]
    confirmed = sum(verdict is Verdict.CONFIRMED for verdict, _ in found)
    verdict = (Verdict.NOT_HERE, Verdict.PARTLY, Verdict.CONFIRMED)[confirmed]
    if not confirmed and any(verdict is Verdict.REFUTED for verdict, _ in found):
        verdict = Verdict.REFUTED
    told = "; ".join(told for _, told in found)
    return Finding(verdict, told, models(results, *inner, groups["experts"], groups["memory"]))


def slots(kept: Kept) -> Finding | None:
    """Bits per byte for every tenfold growth of the tables."""
    results, groups = kept.study("engram_memory"), kept.groups("engram_memory")
    rows = {} if results is None else {own["name"]: own["overrides"]["rows"] for own in results.study["architectures"]}
    if results is None or len(groups) < 3:
        return None
    x_N = np.log10([rows[name] for name in groups])
    seeds = set.intersection(*(set(group.runs) for group in groups.values()))
    bits_SN = np.array([[_bits(group.runs[seed]) for group in groups.values()] for seed in sorted(seeds)])
    slopes, line = [float(np.polyfit(x_N, bits_N, 1)[0]) for bits_N in bits_SN], np.polyfit(x_N, bits_SN.mean(0), 1)
    left, spread = bits_SN.mean(0) - np.polyval(line, x_N), bits_SN.mean(0) - bits_SN.mean()
    straight = 1 - float(left @ left / (spread @ spread))
    value = over_seeds(slopes)
    verdict = sign(value)
    if verdict is Verdict.CONFIRMED and straight < 0.9:
        verdict = Verdict.PARTLY
    slope = f"{value.estimate:+.4f} bits per byte for ten times the rows ({value.low:+.4f} to {value.high:+.4f})"
    told = f"{slope}, R² {straight:.2f}"
    sizes = f"{min(rows.values()):,} to {max(rows.values()):,} rows a head"
    return Finding(verdict, told, f"{sizes}; {models(results, *groups.values())}")


def _bits(run: dict) -> float:
    return sum(run["bits_per_byte"]["bits"]) / sum(run["bits_per_byte"]["bytes"])


def offload(kept: Kept) -> Finding | None:
    """A forward with the table in a file, against in memory."""
    if (found := kept.benchmark("table")) is None:
        return None
    ratio = found["results"]["inference"]["ratio"]["file"]
    low, high = ratio["quartiles"]
    verdict = Verdict.NOT_HERE
    if high <= 1 + OVERHEAD:
        verdict = Verdict.CONFIRMED
    elif ratio["median"] <= 1 + OVERHEAD:
        verdict = Verdict.PARTLY
    elif low > 1 + OVERHEAD:
        verdict = Verdict.REFUTED
    told = f"{ratio['median'] - 1:+.1%} of the time ({low - 1:+.1%} to {high - 1:+.1%})"
    return Finding(
        verdict, told, f"`engram:tiny` with tables of 100M rows in a memory-mapped file, warm; {machine(found)}"
    )


def long_context(kept: Kept) -> Finding | None:
    """Right answers to several needles, of experts with memory less those of experts alone."""
    results, groups = kept.study("table"), kept.groups("table")
    pair = [groups[name] for name in ("engram_moe", "moe") if name in groups]
    if results is None or len(pair) < 2 or any(QUESTIONS not in run for group in pair for run in group.runs.values()):
        return None
    shares = [[run[QUESTIONS]["exact"][-1] for run in group.runs.values()] for group in pair]
    value = over_seeds([one - other for one, other in zip(*shares, strict=True)])
    verdict = Verdict.CONFIRMED if value.low > 0 else Verdict.REFUTED if value.high < 0 else Verdict.NOT_HERE
    told = f"{math.fsum(shares[0]) / len(shares[0]):.0%} right against {math.fsum(shares[1]) / len(shares[1]):.0%}, "
    told += f"{value.estimate:+.0%} ({value.low:+.0%} to {value.high:+.0%})"
    return Finding(verdict, told, models(results, *pair))


ENGRAM = System(
    "Engram",
    "arXiv 2601.07372",
    "engram.md",
    (
        Claim(
            "U-shaped allocation between experts and memory",
            "loss 1.7248 with experts alone, 1.7109 with 75 to 80 % of the inactive parameters in them (sec. 3)",
            (
                Measure(
                    "Is a share between none and all better than both ends, at equal parameters and FLOPs?",
                    ("everlong compare studies/engram.py",),
                    "of the shares between, the one with the fewest bits against either end: confirmed if both "
                    "intervals lie "
                    "below 0, partly if one does, refuted if none does and one lies above, else not at this scale",
                    allocation,
                ),
            ),
        ),
        Claim(
            "Gains at equal parameters and FLOPs",
            "validation loss 1.622 against 1.634 of experts alone, 26.7B parameters, 3.8B active (Table 1)",
            (
                Measure(
                    "Do experts and memory need fewer bits than experts alone, at the paper's share of about 80 %?",
                    ("everlong compare studies/engram.py",),
                    LOWER,
                    fewer_bits("engram", "experts_80", "experts"),
                ),
                Measure(
                    "And on subwords, half of the inactive parameters in each?",
                    ("everlong compare studies/engram_subwords.py",),
                    LOWER,
                    fewer_bits("engram_subwords", "experts_50", "experts"),
                ),
            ),
        ),
        Claim(
            "Loss falls with the logarithm of the slots",
            "linear in log slots from 2.6e5 to 1.0e7 (sec. 3)",
            (
                Measure(
                    "Does the loss fall on a line of the logarithm of the rows?",
                    ("everlong compare studies/engram_memory.py",),
                    "the slope over seeds: confirmed if its interval lies below 0 and R² of the line through the "
                    "means is 0.9 "
                    "or more, partly if it is less, refuted if it lies above 0, else not at this scale",
                    slots,
                ),
            ),
        ),
        Claim(
            "Offload costs under three per cent",
            "throughput -1.9 % and -2.8 % with a table of 100B parameters in host memory (sec. 6)",
            (
                Measure(
                    "What does a forward cost more with its table in a file?",
                    ("python -m benchmarks table",),
                    f"confirmed if the upper quartile is at most {OVERHEAD:.0%}, partly if the median is, refuted if "
                    "the lower "
                    "quartile is above, else not at this scale",
                    offload,
                ),
            ),
        ),
        Claim(
            "Gain in long contexts",
            "RULER with several queries 97.0 against 84.2 at equal loss, 32K tokens (long-context table)",
            (
                Measure(
                    "Are more questions for several needles answered by experts with memory than by experts alone?",
                    ("everlong compare studies/table.py",),
                    "the difference over seeds at the greatest length: confirmed if its interval lies above 0, "
                    "refuted if it "
                    "lies below, else not at this scale",
                    long_context,
                ),
            ),
        ),
    ),
)
