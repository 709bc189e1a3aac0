"""LongNet's claims."""

from __future__ import annotations

import itertools
import math

from everlong.lab.laws import fitted
from studies.evidence.claim import Claim, Finding, Measure, System, Verdict
from studies.evidence.kept import Kept, machine, models
from studies.evidence.rules import LOWER, STEADY, constant, fewer_bits

BILLION = 10**9
PROMPTS = "studies/results/longnet/prompt_length.json"


def linear_cost(kept: Kept) -> Finding | None:
    """Seconds a token at two lengths."""
    if (found := kept.benchmark("dilated")) is None:
        return None
    length = found["results"]["length"]
    (short, _), (long, _) = length["seconds_per_token"].items()
    told = f"a token at {int(long):,} positions takes {length['ratio']:.2f} times one at {int(short):,}"
    return Finding(constant(length["ratio"]), told, f"one head of 64, forward and backward; {machine(found)}")


def reach(kept: Kept) -> Finding | None:
    """A decoding step behind the longest context."""
    if (found := kept.benchmark("dilated")) is None:
        return None
    decode = found["results"]["decode"]
    longest = max(decode["ratio_to_shortest"], key=int)
    ratio = decode["ratio_to_shortest"][longest]
    verdict = constant(ratio["median"])
    if verdict is Verdict.CONFIRMED and int(longest) < BILLION:
        verdict = Verdict.NOT_HERE
    low, high = ratio["quartiles"]
    times = f"{ratio['median']:.2f} times the shortest ({low:.2f} to {high:.2f})"
    told = f"a step after {int(longest):,} positions takes {times}, with {decode['cache_rows'][longest]:,} cached rows"
    return Finding(verdict, told, f"4 heads of 64; {machine(found)}")


def prompts(kept: Kept) -> Finding | None:
    """Bits per byte of the same ends after ever longer prompts."""
    if (found := kept.file(PROMPTS)) is None:
        return None
    points = sorted(found["prompt-length"], key=lambda point: point["length"])
    values = [point["bits_per_byte"] for point in points]
    first, last = points[0], points[-1]
    error = math.hypot(first["standard_error"], last["standard_error"])
    falls = all(later < earlier for earlier, later in itertools.pairwise(values))
    verdict = Verdict.CONFIRMED if falls and values[0] - values[-1] > 2 * error else Verdict.NOT_HERE
    verdict = Verdict.REFUTED if values[-1] - values[0] > 2 * error else verdict
    told = ", ".join(f"{value:.3f} after {point['length']:,}" for value, point in zip(values, points, strict=True))
    scale = f"{last['documents']} documents, ends of 256 bytes; standard error of first less last {error:.3f}"
    return Finding(verdict, f"bits per byte: {told}", scale)


def power_law(kept: Kept) -> Finding | None:
    """The exponent of training FLOPs."""
    results = kept.study("longnet_scaling")
    groups = [] if results is None else [group for group in results.groups if group.runs]
    scaled = fitted(groups, "training FLOPs") if groups else None
    if results is None or scaled is None:
        return None
    exponent = scaled.law.exponents["training FLOPs"]
    verdict = Verdict.CONFIRMED if exponent.low > 0 else Verdict.NOT_HERE
    told = f"L = E + A / FLOPs^a with a = {exponent.estimate:.2f} ({exponent.low:.2f} to {exponent.high:.2f})"
    return Finding(verdict, f"{told}, {scaled.law.points} runs", models(results, *groups))


LONGNET = System(
    "LongNet",
    "arXiv 2307.02486",
    "longnet.md",
    (
        Claim(
            "Linear cost",
            "attention of a layer costs O(N d), dense attention O(N² d) (Table 1, eq. 17-18)",
            (
                Measure(
                    "Does a token cost as much in a long text as in a short one?",
                    ("python -m benchmarks dilated",),
                    f"confirmed if a token takes at most {STEADY} times as long at eight times the length, else "
                    "refuted",
                    linear_cost,
                ),
            ),
        ),
        Claim(
            "Length",
            "1B tokens at almost constant latency (Fig. 5, no milliseconds given)",
            (
                Measure(
                    "Does a decoding step stay as fast behind a billion positions?",
                    ("python -m benchmarks dilated",),
                    f"refuted if a step behind the longest context takes more than {STEADY} times one behind the "
                    "shortest; else confirmed if that context has 1e9 positions, and not at this scale if it has fewer",
                    reach,
                ),
            ),
        ),
        Claim(
            "Order of Table 2",
            "perplexity of code read at 32K: Sparse Transformer trained at 32K 3.64, LongNet 3.01; LongNet trained at "
            "8K and 16K 3.36 (Table 2)",
            (
                Measure(
                    "Is LongNet better than the fixed sparse pattern, trained and read at the same length?",
                    ("everlong compare studies/longnet.py",),
                    LOWER,
                    fewer_bits("longnet", "longnet.2048", "sparse.2048"),
                ),
                Measure(
                    "Is LongNet better when it is trained and read at a greater length?",
                    ("everlong compare studies/longnet.py",),
                    LOWER,
                    fewer_bits("longnet", "longnet.2048", "longnet.512"),
                ),
            ),
        ),
        Claim(
            "Gain from longer prompts",
            "the loss of a suffix falls as its prompt grows from 2K to 32K (Fig. 7b)",
            (
                Measure(
                    "Does the loss of the same ends fall with the length of what stands before?",
                    (
                        "everlong train longnet:nano --override width=96 heads=4 hidden=216 "
                        "'segment_lengths=[128,512,2048]' 'dilations=[1,2,4]' --window 2048 --batch 2 "
                        "--optimizer muon --optimizer.learning-rate 0.01 --schedule wsd --schedule.decay 0.5 "
                        "--steps 600 --out runs/longnet-2048",
                        "everlong evaluate runs/longnet-2048 --suite prompt-length --lengths 128 256 512 1024 "
                        f"--json {PROMPTS}",
                    ),
                    "confirmed if it falls from each length to the next, and in all by more than two standard errors; "
                    "refuted if it rises by as much; else not at this scale",
                    prompts,
                ),
            ),
        ),
        Claim(
            "Power law",
            "test loss follows a power law from 125M to 2.7B parameters (Fig. 7a, Table 4)",
            (
                Measure(
                    "Does the loss follow a power law of training FLOPs?",
                    ("everlong compare studies/longnet_scaling.py",),
                    "confirmed if the interval of the fitted exponent lies above 0, else not at this scale",
                    power_law,
                ),
            ),
        ),
    ),
)
