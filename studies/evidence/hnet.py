"""H-Net's claims."""

from __future__ import annotations

from typing import Any

from studies.evidence.claim import Claim, Finding, Measure, System, Verdict
from studies.evidence.kept import Kept
from studies.evidence.rules import LOWER, fewer_bits

ROBUSTNESS = "studies/results/resolution/robustness-{}.json"
COMPARED = {
    "hnet": "hnet:nano --override outer_width=64 layers=4 width=64 heads=2 hidden=192 bytes_per_chunk=5",
    "transformer": "transformer:nano --override layers=3 width=64 heads=2 hidden=192",
}
"""The sizes that studies/resolution.py finds, of equal FLOPs."""
TRAINED = "--optimizer muon --optimizer.learning-rate 0.006 --steps 400 --batch 8"


def robustness(kept: Kept) -> Finding | None:
    """The scores of two models, and the interval of what they score undisturbed."""
    found = [kept.file(ROBUSTNESS.format(name)) for name in COMPARED]
    scores = [each["robustness"] for each in found if each is not None]
    if len(scores) < len(COMPARED):
        return None
    told = "; ".join(f"{name}: {_told(score)}" for name, score in zip(COMPARED, scores, strict=True))
    ours, theirs = (score["score"] for score in scores)
    verdict = Verdict.NOT_HERE
    if ours is not None and theirs is not None and (surely := _surely(*scores)):
        verdict = Verdict.CONFIRMED if surely > 0 else Verdict.REFUTED
    return Finding(
        verdict, told, f"one run each on 1.6 MB of code, at equal FLOPs; {scores[0]['examples']} choices of documents"
    )


def _told(score: dict[str, Any]) -> str:
    low, high = score["interval"]
    told = "no score, as it is not surely above chance" if score["score"] is None else f"score {score['score']:.1f}"
    return f"{told} (undisturbed {low:.0%} to {high:.0%} right, by chance {score['chance']:.0%})"


def _surely(ours: dict[str, Any], theirs: dict[str, Any]) -> int:
    """1 if our mean disturbed accuracy exceeds theirs by more than the wider undisturbed interval, -1 if it is as far
    below, else 0."""
    mine, other = (sum(score["perturbed"].values()) / len(score["perturbed"]) for score in (ours, theirs))
    room = max(score["interval"][1] - score["interval"][0] for score in (ours, theirs))
    return 1 if mine - other > room else -1 if other - mine > room else 0


HNET = System(
    "H-Net",
    "arXiv 2507.07955",
    "hnet.md",
    (
        Claim(
            "Learned chunks are better than fixed ones",
            "0.755 and 0.743 bits per byte, one and two stages, against 0.780 with pooling of fixed width (Table 2)",
            (
                Measure(
                    "Do learned chunks need fewer bits than fixed ones at equal FLOPs?",
                    ("everlong compare studies/resolution.py",),
                    LOWER,
                    fewer_bits("resolution", "hnet", "fixed"),
                ),
                Measure(
                    "Do they need fewer than chunks that begin at spaces?",
                    ("everlong compare studies/resolution.py",),
                    LOWER,
                    fewer_bits("resolution", "hnet", "spaces"),
                ),
            ),
        ),
        Claim(
            "Robustness",
            "a robustness score of 42.8 against the transformer's 22.2 on disturbed HellaSwag, XL (Table 3)",
            (
                Measure(
                    "Is more of what it can do left when its input is disturbed?",
                    (
                        *(
                            f"everlong train {preset} {TRAINED} --out runs/{name}-code"
                            for name, preset in COMPARED.items()
                        ),
                        *(
                            f"everlong evaluate runs/{name}-code --suite robustness --examples 400 "
                            f"--json {ROBUSTNESS.format(name)}"
                            for name in COMPARED
                        ),
                    ),
                    "where both have a score: confirmed if the mean accuracy on disturbed contexts is higher by more "
                    "than the wider interval of an accuracy, refuted if it is lower by as much; else not at this scale",
                    robustness,
                ),
            ),
        ),
        Claim(
            "Efficiency on DNA",
            "perplexity 2.705 (learned chunks), 2.769 (transformer), 2.757 (Mamba-2) of the human genome, 3.6 times "
            "fewer data for as much (Table 5)",
            (
                Measure(
                    "Do learned chunks need fewer bits than a transformer on a human chromosome, at equal FLOPs?",
                    ("everlong data fetch chr22", "everlong compare studies/resolution_dna.py"),
                    LOWER,
                    fewer_bits("resolution_dna", "hnet", "transformer"),
                ),
            ),
        ),
    ),
)
