"""The rules of the evidence page: from results that are made up, each says every verdict that it can."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from studies.evidence.claim import Verdict
from tests.studies.made import Made, dilated, longnet_of, mamba, megabyte, offload, passkey, sampling, stream

CONFIRMED, PARTLY, NOT_HERE, REFUTED, _ = Verdict


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return Made(tmp_path)


COMPARISONS = [
    ("LongNet", "Order of Table 2", 0, "longnet", "longnet.2048", "sparse.2048"),
    ("LongNet", "Order of Table 2", 1, "longnet", "longnet.2048", "longnet.512"),
    ("Mixture-of-Depths", "Equal loss at half the cost of a step", 0, "mod", "mod.predictor", "transformer"),
    ("Mixture-of-Depths", "Equal loss at half the cost of a step", 1, "mod_long", "mod.predictor", "transformer"),
    ("Mixture-of-Depths", "Equal loss at half the cost of a step", 2, "mod_isoflops", "mod", "transformer"),
    ("MEGABYTE", "Better bits per byte at equal compute", 0, "resolution", "megabyte", "transformer"),
    ("Mamba and hybrids", "Better on raw bytes at less compute", 0, "resolution", "mamba", "transformer"),
    ("H-Net", "Learned chunks are better than fixed ones", 0, "resolution", "hnet", "fixed"),
    ("H-Net", "Learned chunks are better than fixed ones", 1, "resolution", "hnet", "spaces"),
    ("Engram", "Gains at equal parameters and FLOPs", 0, "engram", "experts_80", "experts"),
]


@pytest.mark.parametrize("comparison", COMPARISONS, ids=lambda comparison: f"{comparison[3]}-{comparison[4]}")
@pytest.mark.parametrize(("ours", "verdict"), [(1.9, CONFIRMED), (2.0, NOT_HERE), (2.1, REFUTED)])
def test_fewer_bits(made: Made, comparison: tuple, ours: float, verdict: Verdict) -> None:
    system, claim, number, study, one, other = comparison
    made.study(study, {one: ours, other: 2.0})
    found = made.judged(system, claim, number)
    assert found.verdict is verdict
    assert found.told.startswith(f"{one} less {other}: ")
    assert float(found.told.split()[3]) == pytest.approx(ours - 2, abs=0.005)


MILLION = {"gradient_norm": 1.0, "seconds": 9.0, "peak_bytes": 2**30, "nats_per_byte": 5.5, "gradients_apart": 1e-6}
STEP = ("Mixture-of-Depths", "Equal loss at half the cost of a step", 3)
WRITING = ("MEGABYTE", "More parameters, yet faster generation", 0)
FILE = ("Engram", "Offload costs under three per cent", 0)

TIMED = [
    (("LongNet", "Linear cost", 0), "dilated", dilated(1.1, 10**6, 1.0), CONFIRMED),
    (("LongNet", "Linear cost", 0), "dilated", dilated(8.0, 10**6, 1.0), REFUTED),
    (("LongNet", "Length", 0), "dilated", dilated(1.0, 10**6, 1.1), NOT_HERE),
    (("LongNet", "Length", 0), "dilated", dilated(1.0, 10**9, 1.1), CONFIRMED),
    (("LongNet", "Length", 0), "dilated", dilated(1.0, 10**9, 1.5), REFUTED),
    (("Infini-Transformer", "Constant state", 0), "infini", stream(1.1, 10**6), CONFIRMED),
    (("Infini-Transformer", "Constant state", 0), "infini", stream(1.5, 10**6), REFUTED),
    (("Infini-Transformer", "Constant state", 0), "infini", stream(1.1, 10**9), REFUTED),
    (STEP, "mod", sampling(1.6, 1.7), CONFIRMED),
    (STEP, "mod", sampling(1.2, 1.7), PARTLY),
    (STEP, "mod", sampling(0.9, 1.7), NOT_HERE),
    (STEP, "mod", sampling(0.8, 0.9), REFUTED),
    (("MEGABYTE", "A million bytes", 0), "megabyte_million", MILLION, CONFIRMED),
    (("MEGABYTE", "A million bytes", 0), "megabyte_million", {**MILLION, "gradients_apart": 0.1}, REFUTED),
    (("MEGABYTE", "A million bytes", 0), "megabyte_million", {**MILLION, "nats_per_byte": float("nan")}, REFUTED),
    (WRITING, "megabyte", megabyte(400, 0.5, 0.6), CONFIRMED),
    (WRITING, "megabyte", megabyte(400, 0.5, 0.9), PARTLY),
    (WRITING, "megabyte", megabyte(400, 1.1, 1.2), REFUTED),
    (WRITING, "megabyte", megabyte(300, 0.5, 0.6), NOT_HERE),
    (("Mamba and hybrids", "Constant state", 0), "mamba", mamba(5, 1.1), CONFIRMED),
    (("Mamba and hybrids", "Constant state", 0), "mamba", mamba(6, 1.1), REFUTED),
    (("Mamba and hybrids", "Constant state", 0), "mamba", mamba(5, 2.0), REFUTED),
    (FILE, "table", offload(1.01, 1.0, 1.02), CONFIRMED),
    (FILE, "table", offload(1.02, 1.0, 1.05), PARTLY),
    (FILE, "table", offload(1.05, 1.02, 1.09), NOT_HERE),
    (FILE, "table", offload(1.09, 1.05, 1.2), REFUTED),
]


@pytest.mark.parametrize(("asked", "benchmark", "results", "verdict"), TIMED, ids=lambda value: str(value)[:40])
def test_times(made: Made, asked: tuple, benchmark: str, results: dict, verdict: Verdict) -> None:
    made.benchmark(benchmark, results)
    assert made.judged(*asked).verdict is verdict


@pytest.mark.parametrize(
    ("lowest", "others", "verdict"), [(0.97, 0.99, CONFIRMED), (0.96, 0.99, PARTLY), (0.96, 0.97, NOT_HERE)]
)  # fmt: skip
def test_predictors(made: Made, lowest: float, others: float, verdict: Verdict) -> None:
    """Of two layers and three seeds, one is the lowest; what is shown besides does not count."""
    runs = [
        {"observed": {"training": {"depths/accuracy, 1 of 2": others, "depths/accuracy, 2 of 2": own, "bits": 0.0}}}
        for own in (others, lowest, others)
    ]
    made.study("mod_long", {"mod.predictor": 2.0}, runs={"mod.predictor": runs})
    found = made.judged("Mixture-of-Depths", "A predictor tells in a stream who is routed")
    assert found.verdict is verdict
    assert found.told.endswith(f"{lowest:.1%} to {others:.1%} by layer and seed")


@pytest.mark.parametrize(
    ("mixed", "verdict"), [(1.8, CONFIRMED), (1.95, PARTLY), (2.0, NOT_HERE), (2.2, REFUTED)]
)  # fmt: skip
def test_ratios(made: Made, mixed: float, verdict: Verdict) -> None:
    attention = 2.0 if verdict is not PARTLY else 1.95
    made.study("ratios", {"mamba": 2.0, "7to1": mixed + 0.1, "3to1": mixed, "attention": attention})
    assert (
        made.judged("Mamba and hybrids", "Three to ten layers of Mamba to one of attention are best").verdict is verdict
    )


@pytest.mark.parametrize(
    ("mamba", "hybrid", "transformer", "verdict"),
    [
        ((0.5, 0.2), (0.99, 0.97), (0.99, 0.1), CONFIRMED),
        ((0.99, 0.2), (0.9, 0.9), (0.1, 0.1), PARTLY),
        ((0.9, 0.9), (0.9, 0.9), (0.9, 0.1), NOT_HERE),
        ((0.9, 0.9), (0.9, 0.9), (0.99, 0.1), REFUTED),
    ],
)
@pytest.mark.parametrize(("number", "task"), [(0, "selective copying"), (1, "induction")])
def test_character_tasks(
    made: Made, number: int, task: str, mamba: tuple, hybrid: tuple, transformer: tuple, verdict: Verdict
) -> None:
    shares = {"mamba": mamba, "hybrid": hybrid, "transformer": transformer}
    models = [
        {"task": task, "family": family, "accuracy": {"256": short, "1024": 0.3, longest: long}}
        for (family, (short, long)), longest in zip(shares.items(), ("65536", "65536", "16384"), strict=True)
    ]
    made.benchmark("extrapolation", {"models": models, "shape": {"layers": 2, "width": 64}})
    found = made.judged("Mamba and hybrids", "Character tasks", number)
    assert found.verdict is verdict
    short, long = transformer
    ends = f"transformer {short:.0%} at 256, {long:.0%} at 16,384"
    assert found.told.endswith(f"{ends}, 95% or more up to 256" if short >= 0.95 else ends)


@pytest.mark.parametrize(
    ("mamba", "mixed", "attention", "verdict"),
    [(0.5, 0.96, 0.99, CONFIRMED), (0.96, 0.96, 0.99, NOT_HERE), (0.5, 0.6, 0.99, REFUTED), (0.5, 0.6, 0.7, NOT_HERE)],
)
def test_recall_of_ratios(made: Made, mamba: float, mixed: float, attention: float, verdict: Verdict) -> None:
    shares = {"mamba": mamba, "9to1": 0.1, "3to1": mixed, "1to1": 1.0, "attention": attention}
    models = [{"family": f, "width": 32, "state_bytes": 9000, "accuracy": share} for f, share in shares.items()]
    made.benchmark("recall_ratios", {"models": models})
    claim = "Three to ten layers of Mamba to one of attention are best"
    assert made.judged("Mamba and hybrids", claim, 1).verdict is verdict


@pytest.mark.parametrize(
    ("mamba", "verdict"), [((2.0, 1.9), CONFIRMED), ((2.0, 2.1), PARTLY), ((2.3, 2.1), REFUTED)]
)  # fmt: skip
def test_half_the_compute(made: Made, mamba: tuple[float, float], verdict: Verdict) -> None:
    """Of attention at 1, 2 and 4, and Mamba-2 at 1, 2 and 4 times the FLOPs: one pair of sizes after the other."""
    bits = {
        "mamba1": mamba[0],
        "mamba2": mamba[1],
        "mamba4": 1.0,
        "attention1": 3.0,
        "attention2": 2.0,
        "attention4": 1.9,
    }
    made.study("raw_bytes", bits, matching={name: f"equal FLOPs per byte ({name[-1]})" for name in bits})
    made.rewrite(
        "raw_bytes",
        lambda group: {
            "architecture": group["architecture"][:-1],
            "cost": {"non_embedding": 9, "flops_per_byte": float(group["architecture"][-1])},
        },
    )
    assert made.judged("Mamba and hybrids", "Better on raw bytes at less compute", 1).verdict is verdict


@pytest.mark.parametrize(
    ("bits", "verdict"),
    [
        ({"experts": 2.0, "experts_80": 1.9, "experts_40": 2.1, "memory": 2.0}, CONFIRMED),
        ({"experts": 2.0, "experts_80": 2.0, "experts_40": 2.1, "memory": 2.3}, PARTLY),
        ({"experts": 2.0, "experts_80": 2.0, "experts_40": 2.1, "memory": 2.0}, NOT_HERE),
        ({"experts": 1.8, "experts_80": 1.9, "experts_40": 2.1, "memory": 1.9}, REFUTED),
    ],
)
def test_allocation(made: Made, bits: dict[str, float], verdict: Verdict) -> None:
    made.study("engram", bits)
    assert made.judged("Engram", "U-shaped allocation between experts and memory").verdict is verdict


@pytest.mark.parametrize(
    ("levels", "verdict"),
    [
        ((2.3, 2.2, 2.1, 2.0), CONFIRMED),
        ((2.3, 2.0, 2.0, 2.05), PARTLY),
        ((2.0, 2.0, 2.0, 2.0), NOT_HERE),
        ((2.0, 2.1, 2.2, 2.3), REFUTED),
    ],
)
def test_slots(made: Made, levels: tuple[float, ...], verdict: Verdict) -> None:
    names = {f"rows_{10**i}": 10**i for i in range(2, 6)}
    told = [{"name": name, "overrides": {"rows": rows}} for name, rows in names.items()]
    made.study("engram_memory", dict(zip(names, levels, strict=True)), architectures=told)
    assert made.judged("Engram", "Loss falls with the logarithm of the slots").verdict is verdict


@pytest.mark.parametrize(
    ("ours", "theirs", "verdict"),
    [
        ((0.8, 0.9, 0.85), (0.5, 0.4, 0.45), CONFIRMED),
        ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0), NOT_HERE),
        ((0.1, 0.1, 0.1), (0.5, 0.4, 0.45), REFUTED),
    ],
)
def test_long_contexts(made: Made, ours: tuple, theirs: tuple, verdict: Verdict) -> None:
    answers = {
        name: [{"needle-queries": {"exact": [share]}} for share in shares]
        for name, shares in (("engram_moe", ours), ("moe", theirs))
    }
    made.study("table", {"engram_moe": 2.0, "moe": 2.0}, runs=answers)
    assert made.judged("Engram", "Gain in long contexts").verdict is verdict


@pytest.mark.parametrize(("reach", "verdict"), [(2**20, CONFIRMED), (8192, PARTLY), (1024, NOT_HERE), (0, NOT_HERE)])
def test_passkey(made: Made, reach: int, verdict: Verdict) -> None:
    """The best update counts; ablations do not."""
    made.json("studies/results/passkey/linear-seed0.json", passkey("linear", 0))
    made.json("studies/results/passkey/delta-seed0.json", passkey("delta", reach))
    made.json("studies/results/passkey/linear-detached-seed0.json", passkey("linear", 2**20, ablation="detached"))
    found = made.judged("Infini-Transformer", "A passkey in a million tokens after short training")
    assert found.verdict is verdict
    assert reach == 0 or "`delta`, trained up to 1,024" in found.told


def test_passkey_over_seeds(made: Made) -> None:
    """A seed that fails pulls down the others of its update; the best seed is not the update."""
    for seed, reach in enumerate((2**20, 1024)):
        made.json(f"studies/results/passkey/delta-seed{seed}.json", passkey("delta", reach, seed=seed))
    found = made.judged("Infini-Transformer", "A passkey in a million tokens after short training")
    assert found.verdict is NOT_HERE
    assert "2 seeds" in found.scale
    assert "24 texts" in found.scale


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ((2.0, 1.9, 1.8), CONFIRMED),
        ((2.0, 2.01, 1.8), NOT_HERE),
        ((2.0, 1.99, 1.98), NOT_HERE),
        ((1.8, 1.9, 2.0), REFUTED),
    ],
)
def test_prompts(made: Made, values: tuple[float, ...], verdict: Verdict) -> None:
    points = [
        {"length": 2**i, "documents": 9, "bytes": 900, "bits_per_byte": value, "standard_error": 0.02}
        for i, value in enumerate(values)
    ]
    made.json("studies/results/longnet/prompt_length.json", {"prompt-length": points})
    assert made.judged("LongNet", "Gain from longer prompts").verdict is verdict


@pytest.mark.parametrize(
    ("ours", "theirs", "verdict"),
    [(0.8, 0.4, CONFIRMED), (0.6, 0.6, NOT_HERE), (0.4, 0.8, REFUTED), (None, 0.4, NOT_HERE)],
)
def test_robustness(made: Made, ours: float | None, theirs: float, verdict: Verdict) -> None:
    for name, share in (("hnet", ours), ("transformer", theirs)):
        told = {"examples": 200, "chance": 0.25, "interval": [0.8, 0.9], "perturbed": {"drop": share or 0.3}}
        told["score"] = None if share is None else 100 * share
        made.json(f"studies/results/resolution/robustness-{name}.json", {"robustness": told})
    assert made.judged("H-Net", "Robustness").verdict is verdict


@pytest.mark.parametrize(("law", "verdict"), [(lambda x: 1 + 3 / x**0.5, CONFIRMED), (lambda x: 2.0, NOT_HERE)])
def test_power_law(made: Made, law: Callable[[float], float], verdict: Verdict) -> None:
    """The architecture of every size has the same name; the made-up study tells them apart by their comparisons."""
    sizes = {f"longnet{i}": 4.0**i for i in range(5)}
    draw = np.random.default_rng(1)
    runs = {name: [{"flops": x, "bytes_seen": 10**6}] * 3 for name, x in sizes.items()}
    bits = {name: law(x) * (1 + 0.001 * draw.standard_normal()) for name, x in sizes.items()}
    made.study("longnet_scaling", bits, runs=runs, matching={name: name for name in sizes})
    made.rewrite("longnet_scaling", lambda plan: longnet_of(int(plan["architecture"][-1])))
    assert made.judged("LongNet", "Power law").verdict is verdict


@pytest.mark.parametrize(("nearest", "verdict"), [(2.0, CONFIRMED), (1.5, NOT_HERE), (1.2, REFUTED)])
def test_the_composition_is_judged_by_what_comes_nearest(made: Made, nearest: float, verdict: Verdict) -> None:
    made.study("against", {"everlong": 1.5, "transformer": 3.0, "engram": nearest})
    found = made.judged("Everlong", "Better than what it is made of")
    assert found.verdict == verdict
    assert "less engram, the nearest" in found.told
