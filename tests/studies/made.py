"""Results that are made up, in the forms in which benchmarks and studies keep theirs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from studies.evidence.claim import Finding, Measure
from studies.evidence.kept import Kept
from studies.evidence.page import SYSTEMS

MACHINE = {"threads": 2, "processor": "a processor", "torch": "2.13.0"}


def measures(system: str, claim: str) -> tuple[Measure, ...]:
    (found,) = [c for s in SYSTEMS if s.name == system for c in s.claims if c.title == claim]
    return found.measures


class Made:
    """Results that are made up, in a folder."""

    def __init__(self, root: Path) -> None:
        self.kept = Kept(root)

    def benchmark(self, name: str, results: Any) -> None:
        self.json(f"benchmarks/results/{name}.json", {**MACHINE, "results": results})

    def study(self, name: str, bits: dict[str, float], **more: Any) -> None:
        """A study whose architectures need so many bits per byte, a thousandth of which differs from seed to seed."""
        draw, cells, groups = np.random.default_rng(0), {}, []
        for architecture, level in bits.items():
            for seed in range(3):
                own = more.get("runs", {}).get(architecture, [{}] * 3)[seed]
                told = {"bits": (8000 * level * (1 + 0.001 * draw.standard_normal(20))).tolist(), "bytes": [8000] * 20}
                cells[f"{architecture}-{seed}"] = {"bits_per_byte": told, **own}
            plan = {
                "matching": more.get("matching", {}).get(architecture, "equal FLOPs"),
                "quantity": "FLOPs per byte",
                "architecture": architecture,
                "cost": {"non_embedding": 1000},
                "bytes": 10**6,
                "sizes": {},
            }
            runs = {str(seed): f"{architecture}-{seed}" for seed in range(3)}
            groups.append({"plan": plan, "sweep": {}, "rate": "0.01", "runs": runs})
        study = {"data": {"sources": []}, "architectures": more.get("architectures", [])}
        plain = {"format": 1, "study": study, "groups": groups, "cells": cells, "missing": []}
        self.json(f"studies/results/{name}/results.json", plain)

    def rewrite(self, name: str, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        """Changes what the plan of every group says."""
        path = self.kept.root / f"studies/results/{name}/results.json"
        plain = json.loads(path.read_text())
        for group in plain["groups"]:
            group["plan"] |= change(group["plan"])
        path.write_text(json.dumps(plain))

    def json(self, path: str, plain: Any) -> None:
        target = self.kept.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(plain))

    def judged(self, system: str, claim: str, number: int = 0) -> Finding:
        found = measures(system, claim)[number].judge(self.kept)
        assert found is not None
        return found


def quartiles(median: float, low: float, high: float) -> dict[str, Any]:
    return {"median": median, "quartiles": [low, high]}


def dilated(ratio: float, longest: int, decode: float) -> dict[str, Any]:
    return {
        "length": {"seconds_per_token": {"1000": 1.0, "8000": ratio}, "ratio": ratio},
        "decode": {
            "ratio_to_shortest": {"1000": quartiles(1, 1, 1), str(longest): quartiles(decode, decode, decode)},
            "cache_rows": {str(longest): 7},
        },
    }


def stream(slower: float, grown: int) -> dict[str, Any]:
    return {"stream": {"tokens": 2**20, "growth_bytes": grown, "last_to_first": slower, "state_bytes": 10}}


def megabyte(parameters: int, low: float, high: float) -> dict[str, Any]:
    ratio = {"larger megabyte": quartiles((low + high) / 2, low, high)}
    counts = {"dense": 100, "larger megabyte": parameters}
    return {"parameters": counts, "writing 8192 bytes": {"ratio to the first": ratio}}


def mamba(held: int, ratio: float) -> dict[str, Any]:
    ratios = {"2": quartiles(1, 1, 1), "16": quartiles(ratio, ratio, ratio)}
    return {"decode": {"everlong": {"ratio_to_first": ratios, "state_bytes": {"2": 5, "16": held}}}}


def sampling(low: float, high: float) -> dict[str, Any]:
    return {"sampling": {"8": {"faster": quartiles(9, 9, 9)}, "64": {"faster": quartiles(low, low, high)}}}


def offload(median: float, low: float, high: float) -> dict[str, Any]:
    return {"inference": {"ratio": {"file": quartiles(median, low, high)}}}


def passkey(update: str, reach: int, **settings: Any) -> dict[str, Any]:
    """A run that was trained up to 1,024 symbols."""
    asked = {
        "update": update,
        "ablation": "none",
        "haystack": "repetitive",
        "keys": 1,
        "seed": 0,
        "segment": 32,
        "stages": [{"segments": [4, 32]}],
    }
    lengths = (1024, 8192, 2**20)
    shares = [{"start": 1.0, "middle": 1.0, "end": 1.0 if length <= reach else 0.4} for length in lengths]
    accuracy = [{"length": n, "rows": 4, "digits": s, "exact": s} for n, s in zip(lengths, shares, strict=True)]
    return {"settings": asked | settings, "parameters": 1000, "accuracy": accuracy}


def longnet_of(i: int) -> dict[str, Any]:
    return {"architecture": "longnet", "sizes": {"width": i}, "cost": {"non_embedding": 4**i}}
