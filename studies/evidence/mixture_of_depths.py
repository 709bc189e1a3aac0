"""Mixture-of-Depths' claims."""

from __future__ import annotations

from everlong.lab.metrics import OBSERVED
from studies.evidence.claim import Claim, Finding, Measure, System, Verdict
from studies.evidence.kept import Kept, machine, models
from studies.evidence.rules import LOWER, fewer_bits

FASTER = 1.5
AGREES = 0.97
"""Share of positions of which the paper's predictor tells whether they are routed (secondary source)."""


def step(kept: Kept) -> Finding | None:
    """A decoding step behind the longest context, against a dense model of the same shape."""
    if (found := kept.benchmark("mod")) is None:
        return None
    sampling = found["results"]["sampling"]
    longest = max(sampling, key=int)
    faster = sampling[longest]["faster"]
    low, high = faster["quartiles"]
    verdict = Verdict.CONFIRMED if low >= FASTER else Verdict.PARTLY if low > 1 else Verdict.NOT_HERE
    verdict = Verdict.REFUTED if high < 1 else verdict
    told = f"the dense model takes {faster['median']:.2f} times as long ({low:.2f} to {high:.2f})"
    return Finding(verdict, told, f"`mod:tiny` and `transformer:tiny` behind {int(longest):,} bytes; {machine(found)}")


def agreement(kept: Kept) -> Finding | None:
    """How often the predictor says what training would have routed, on held-out bytes, by layer and seed."""
    results, group = kept.study("mod_long"), kept.groups("mod_long").get("mod.predictor")
    if results is None or group is None:
        return None
    shown = [run[OBSERVED]["training"] for run in group.runs.values()]
    shares = [share for each in shown for name, share in each.items() if name.startswith("depths/accuracy")]
    mean = sum(shares) / len(shares)
    verdict = Verdict.PARTLY if mean >= AGREES else Verdict.NOT_HERE
    verdict = Verdict.CONFIRMED if min(shares) >= AGREES else verdict
    told = f"{mean:.1%} in the mean, {min(shares):.1%} to {max(shares):.1%} by layer and seed"
    return Finding(verdict, told, models(results, group))


MIXTURE_OF_DEPTHS = System(
    "Mixture-of-Depths",
    "arXiv 2404.02258",
    "mixture_of_depths.md",
    (
        Claim(
            "Equal loss at half the cost of a step",
            "up to 1.5 % better log-probability at equal training FLOPs; equal loss at about half the FLOPs of a "
            "forward; "
            "upwards of 50 % faster to step when sampling (abstract, secondary source)",
            (
                Measure(
                    "Does it need fewer bits at equal training FLOPs per byte, decided as in a stream?",
                    ("everlong compare studies/mod.py",),
                    LOWER,
                    fewer_bits("mod", "mod.predictor", "transformer"),
                ),
                Measure(
                    "Does it after four times as many bytes, in windows of 2,048?",
                    ("everlong compare studies/mod_long.py",),
                    LOWER,
                    fewer_bits("mod_long", "mod.predictor", "transformer"),
                ),
                Measure(
                    "Does it in the same shape, at equal FLOPs of the whole training, and so after more bytes?",
                    ("everlong compare studies/mod_isoflops.py",),
                    LOWER,
                    fewer_bits("mod_isoflops", "mod", "transformer"),
                ),
                Measure(
                    "How much faster is a decoding step than that of the dense model of its shape?",
                    ("python -m benchmarks mod",),
                    f"confirmed if the lower quartile is {FASTER} or more, partly if it is above 1, refuted if the "
                    "upper one "
                    "is below 1, else not at this scale",
                    step,
                ),
            ),
        ),
        Claim(
            "A predictor tells in a stream who is routed",
            "97 % early in training, up to 99 % (secondary source)",
            (
                Measure(
                    "How often does it say what training would have routed, on held-out bytes?",
                    ("everlong compare studies/mod_long.py",),
                    f"confirmed if it is {AGREES:.0%} or more in every layer and with every seed, partly if it is in "
                    "the mean, else not at this scale",
                    agreement,
                ),
            ),
        ),
    ),
)
