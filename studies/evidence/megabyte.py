"""MEGABYTE's claims."""

from __future__ import annotations

import math

from studies.evidence.claim import Claim, Finding, Measure, System, Verdict
from studies.evidence.kept import Kept, machine
from studies.evidence.rules import LOWER, fewer_bits

FASTER, LARGER, AGREE = 1.4, 4.0, 1e-3


def million(kept: Kept) -> Finding | None:
    """Forward and backward over 2^20 bytes."""
    if (found := kept.benchmark("megabyte_million")) is None:
        return None
    seen = found["results"]
    finite = math.isfinite(seen["nats_per_byte"]) and math.isfinite(seen["gradient_norm"])
    verdict = Verdict.CONFIRMED if finite and seen["gradients_apart"] <= AGREE else Verdict.REFUTED
    told = (
        f"{seen['seconds']:,.0f} s and {seen['peak_bytes'] / 2**30:.1f} GiB at the most, {seen['nats_per_byte']:.2f} "
        f"nats a byte; gradients of whole and pieces {seen['gradients_apart']:.1g} apart"
    )
    return Finding(verdict, told, f"`megabyte:tiny`, untrained, Python's standard library; {machine(found)}")


def generation(kept: Kept) -> Finding | None:
    """A larger MEGABYTE and a dense model write a context."""
    if (found := kept.benchmark("megabyte")) is None:
        return None
    seen = found["results"]
    larger = seen["parameters"]["larger megabyte"] / seen["parameters"]["dense"]
    quartiles = seen["writing 8192 bytes"]["ratio to the first"]["larger megabyte"]["quartiles"]
    low, high = (1 / value for value in reversed(quartiles))
    verdict = Verdict.NOT_HERE
    if larger >= LARGER:
        verdict = Verdict.CONFIRMED if low >= FASTER else Verdict.PARTLY if low > 1 else Verdict.NOT_HERE
        verdict = Verdict.REFUTED if high < 1 else verdict
    told = f"with {larger:.1f} times the parameters, the dense model takes {low:.2f} to {high:.2f} times as long"
    return Finding(verdict, told, f"{seen['parameters']['dense']:,} parameters, dense; {machine(found)}")


MEGABYTE = System(
    "MEGABYTE",
    "arXiv 2305.07185",
    "megabyte.md",
    (
        Claim(
            "A million bytes",
            "images of 640 x 640, 1.2M bytes, in one pass (its table of images; unverified)",
            (
                Measure(
                    "Are a million bytes read, forward and backward?",
                    ("python -m benchmarks.megabyte million",),
                    "confirmed if loss and gradient are finite over one sequence of 2^20 bytes, and over 2^16 the "
                    f"gradient is that of pieces whose state is carried, within {AGREE:g} of its norm; else refuted",
                    million,
                ),
            ),
        ),
        Claim(
            "More parameters, yet faster generation",
            "8192 bytes by 1.3B + 218M parameters 40 % faster than by a transformer of 350M (its comparison "
            "of generation)",
            (
                Measure(
                    "How much faster does a MEGABYTE of four times the parameters write 8192 bytes?",
                    ("python -m benchmarks megabyte",),
                    f"with {LARGER:.0f} times the parameters or more: confirmed if the lower quartile is {FASTER} or "
                    "more, partly if it is above 1, refuted if the upper one is below 1; else not at this scale",
                    generation,
                ),
            ),
        ),
        Claim(
            "Better bits per byte at equal compute",
            "PG-19 1.000 against 1.057, code 0.411 against 0.575 of a transformer over bytes, compute-matched "
            "(its table of text)",
            (
                Measure(
                    "Does it need fewer bits than a transformer over bytes at equal FLOPs?",
                    ("everlong compare studies/resolution.py",),
                    LOWER,
                    fewer_bits("resolution", "megabyte", "transformer"),
                ),
            ),
        ),
    ),
)
