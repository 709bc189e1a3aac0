"""Mamba's and hybrids' claims."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping

from everlong.lab.results import difference
from everlong.lab.statistics import Interval
from studies.evidence.claim import Claim, Finding, Measure, System, Verdict, together
from studies.evidence.kept import Kept, machine, models
from studies.evidence.rules import LOWER, STEADY, bits, constant, fewer_bits, less

MIXED = ("9to1", "7to1", "3to1")
"""Ratios of Mamba-2 to attention within 3:1 to 10:1."""
PURE = ("mamba", "attention")
ANSWERED = 0.95
"""Accuracy from which on a task counts as learnt."""
MARGIN = 0.02
"""Bits per byte within which two models count as equal."""


def ratios(kept: Kept) -> Finding | None:
    """The mixture that needs the fewest bits, against either alone."""
    results, groups = kept.study("ratios"), kept.groups("ratios")
    mixed = [groups[name] for name in MIXED if name in groups]
    if results is None or not mixed or not all(name in groups for name in PURE):
        return None
    best = min(mixed, key=lambda group: group.interval.estimate if group.interval else float("inf"))
    found = [pair for name in PURE if (pair := less(best, groups[name])) is not None]
    verdicts = {verdict for verdict, _ in found}
    verdict = Verdict.NOT_HERE
    if verdicts == {Verdict.CONFIRMED}:
        verdict = Verdict.CONFIRMED
    elif Verdict.CONFIRMED in verdicts:
        verdict = Verdict.PARTLY
    elif verdicts == {Verdict.REFUTED}:
        verdict = Verdict.REFUTED
    scale = models(results, best, *(groups[name] for name in PURE))
    return Finding(verdict, "; ".join(told for _, told in found), scale)


def decoding(kept: Kept) -> Finding | None:
    """A step of a layer behind two contexts."""
    if (found := kept.benchmark("mamba")) is None:
        return None
    own = found["results"]["decode"]["everlong"]
    longest = max(own["ratio_to_first"], key=int)
    ratio, held = own["ratio_to_first"][longest], own["state_bytes"]
    low, high = ratio["quartiles"]
    verdict = constant(ratio["median"]) if len(set(held.values())) == 1 else Verdict.REFUTED
    told = (
        f"a state of {held[longest]:,} bytes at every length; a step after {int(longest):,} positions takes "
        f"{ratio['median']:.2f} times the shortest ({low:.2f} to {high:.2f})"
    )
    return Finding(verdict, told, f"a layer of width 512; {machine(found)}")


def half_the_compute(kept: Kept) -> Finding | None:
    """Mamba-2 against attention that takes twice the training FLOPs per byte: the pairs of a study's targets."""
    if (results := kept.study("raw_bytes")) is None:
        return None
    groups = sorted((g for g in results.groups if len(g.runs) >= 2), key=lambda g: g.plan["cost"]["flops_per_byte"])
    ours, theirs = ([g for g in groups if g.name == name] for name in PURE)
    pairs = [(one, other) for one, other in zip(ours, theirs[1:], strict=False)]
    values = [difference(one, other) for one, other in pairs]
    if not pairs or None in values:
        return None
    verdicts = [_no_worse(value) for value in values if value is not None]
    told = "; ".join(
        f"at {one.plan['cost']['flops_per_byte']:.2g} FLOPs {bits(v)}"
        for (one, _), v in zip(pairs, values, strict=True)
        if v
    )
    return Finding(together(verdicts), f"Mamba-2 less attention: {told}", models(results, *ours, *theirs))


def _no_worse(value: Interval) -> Verdict:
    if value.high < MARGIN:
        return Verdict.CONFIRMED
    return Verdict.REFUTED if value.low > MARGIN else Verdict.NOT_HERE


def task(name: str) -> Callable[[Kept], Finding | None]:
    """Judges a task of `benchmarks/extrapolation.py`."""

    def judge(kept: Kept) -> Finding | None:
        if (found := kept.benchmark("extrapolation")) is None:
            return None
        rows = {row["family"]: row["accuracy"] for row in found["results"]["models"] if row["task"] == name}
        lengths = sorted(rows["mamba"], key=int)
        ends = {family: (accuracy[lengths[0]], accuracy[max(accuracy, key=int)]) for family, accuracy in rows.items()}
        trained, reached = max(ends[family] for family in ("mamba", "hybrid"))
        verdict = Verdict.NOT_HERE
        if trained >= ANSWERED:
            verdict = Verdict.CONFIRMED if reached >= ANSWERED else Verdict.PARTLY
        elif ends["transformer"][0] >= ANSWERED:
            verdict = Verdict.REFUTED
        told = "; ".join(f"{family} {_reach(accuracy)}" for family, accuracy in rows.items())
        shape = found["results"]["shape"]
        scale = f"{shape['layers']} layers of width {shape['width']}, one seed; {machine(found)}"
        return Finding(verdict, f"right, by positions: {told}", scale)

    return judge


def _reach(accuracy: Mapping[str, float]) -> str:
    """Accuracy at the shortest and the longest length, and how far it stays high."""
    lengths = sorted(accuracy, key=int)
    ends = f"{accuracy[lengths[0]]:.0%} at {int(lengths[0]):,}, {accuracy[lengths[-1]]:.0%} at {int(lengths[-1]):,}"
    high = list(itertools.takewhile(lambda length: accuracy[length] >= ANSWERED, lengths))
    return f"{ends}, {ANSWERED:.0%} or more up to {int(high[-1]):,}" if high else ends


def recall(kept: Kept) -> Finding | None:
    """Recall of every ratio, and the bytes of its state."""
    if (found := kept.benchmark("recall_ratios")) is None:
        return None
    rows = {row["family"]: row for row in found["results"]["models"]}
    right = {name for name, row in rows.items() if row["accuracy"] >= ANSWERED}
    verdict = Verdict.NOT_HERE
    if right.intersection(MIXED) and "mamba" not in right:
        verdict = Verdict.CONFIRMED
    elif "attention" in right and not right.intersection(MIXED):
        verdict = Verdict.REFUTED
    told = "; ".join(f"{name} {row['accuracy']:.0%} with {row['state_bytes']:,} bytes" for name, row in rows.items())
    width = rows["mamba"]["width"]
    return Finding(verdict, f"right: {told}", f"width {width}, 8 to 10 layers, one seed; {machine(found)}")


TASKS = (
    f"by the better of Mamba-2 and hybrid: confirmed if {ANSWERED:.0%} are right at the greatest length of training "
    "and at the "
    "greatest of all, partly if only at the former; refuted if neither learns what the transformer does; else not at "
    "this scale"
)

MAMBA = System(
    "Mamba and hybrids",
    "arXiv 2312.00752, 2405.21060, 2507.06457",
    "mamba.md",
    (
        Claim(
            "Three to ten layers of Mamba to one of attention are best",
            "3:1 to 10:1 (Gu 2025, position statement); 3:1 to 6:1 by recall, with a loss that is flat in the ratio "
            "(arXiv 2507.06457, 72 models)",
            (
                Measure(
                    "Does a mixture need fewer bits than either alone, at equal FLOPs?",
                    ("everlong compare studies/ratios.py",),
                    f"of {', '.join(MIXED)} the one with the fewest bits against Mamba-2 and against attention: "
                    "confirmed "
                    "if both intervals lie below 0, partly if one does, refuted if both lie above, else not at this "
                    "scale",
                    ratios,
                ),
                Measure(
                    "Does a mixture recall what Mamba-2 alone does not hold?",
                    ("python -m benchmarks recall_ratios",),
                    f"by eight key-value pairs: confirmed if one of {', '.join(MIXED)} answers {ANSWERED:.0%} and "
                    "Mamba-2 does not; refuted if only attention does; else not at this scale",
                    recall,
                ),
            ),
        ),
        Claim(
            "Constant state",
            "a state of fixed size, and so decoding in constant memory and time (arXiv 2312.00752, sec. 3)",
            (
                Measure(
                    "Do state and time of a decoding step stay the same?",
                    ("python -m benchmarks mamba",),
                    f"confirmed if the state has as many bytes and a step takes at most {STEADY} times as long behind "
                    "the "
                    "longest context as behind the shortest, else refuted",
                    decoding,
                ),
            ),
        ),
        Claim(
            "Better on raw bytes at less compute",
            "MambaByte 0.845 bits per byte at 0.42 GFLOPs a byte, a transformer over bytes 0.845 at 0.95 and 0.859 at "
            "0.42 "
            "(arXiv 2507.07955, Table 2)",
            (
                Measure(
                    "Does Mamba-2 need fewer bits than a transformer over bytes at equal FLOPs?",
                    ("everlong compare studies/resolution.py",),
                    LOWER,
                    fewer_bits("resolution", "mamba", "transformer"),
                ),
                Measure(
                    "Is it no worse than attention that takes twice its training FLOPs?",
                    ("everlong compare studies/raw_bytes.py",),
                    f"of each pair of sizes: confirmed if the upper end of the difference is below {MARGIN}, refuted "
                    "if the lower "
                    "end is above, else not at this scale; partly if pairs differ and one is confirmed",
                    half_the_compute,
                ),
            ),
        ),
        Claim(
            "Character tasks",
            "selective copying 99.8 % (unverified); induction heads learnt at 256 and perfect up to 2^20 positions "
            "(arXiv "
            "2312.00752, sec. 4.1)",
            tuple(
                Measure(question, ("python -m benchmarks extrapolation",), TASKS, task(name))
                for name, question in (
                    (
                        "selective copying",
                        "Are letters among noise copied, also in much longer rows than those of training?",
                    ),
                    ("induction", "Is what followed a mark recalled, also in much longer rows?"),
                )
            ),
        ),
    ),
)
