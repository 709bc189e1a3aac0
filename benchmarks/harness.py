"""Timing: sides in turn, after a warm-up; medians and spread; the machine's rate from the same run; results as JSON.

Two sides of a comparison are timed A B A B ..., so that a machine whose speed drifts slows both, and their ratio is
taken pair by pair.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from everlong.train.roofline import matmul_rate

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Timing:
    """Seconds of one side's runs."""

    median: float
    quartiles: tuple[float, float]
    runs: int


@dataclass(frozen=True)
class Ratio:
    """How often longer one side takes than another, pair by pair."""

    median: float
    quartiles: tuple[float, float]


def interleave(
    sides: Mapping[str, Callable[[], object]], *, runs: int = 9, warm_up: int = 2
) -> tuple[dict[str, Timing], dict[str, Ratio]]:
    """Times the sides in turn.

    Returns:
        Each side's timing, and each side's ratio to the first.
    """
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(warm_up + runs):
        for name, run in sides.items():
            began = time.perf_counter()
            run()
            if turn >= warm_up:
                seconds[name].append(time.perf_counter() - began)
    first = seconds[next(iter(sides))]
    ratios = {
        name: Ratio(*_summary([own / base for own, base in zip(times, first, strict=True)]))
        for name, times in seconds.items()
    }
    return {name: Timing(*_summary(times), len(times)) for name, times in seconds.items()}, ratios


def _summary(values: list[float]) -> tuple[float, tuple[float, float]]:
    low, middle, high = statistics.quantiles(values, n=4)
    return middle, (low, high)


def record(name: str, results: dict[str, Any]) -> Path:
    """Writes `results` with what they depend on, and prints them."""
    whole = {"benchmark": name, **environment(), "results": results}
    text = json.dumps(whole, indent=2, default=asdict)
    print(text)
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(text + "\n")
    return path


def environment() -> dict[str, Any]:
    """Machine, versions, commit, and the machine's matmul rates now."""
    return {
        "commit": _commit(),
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "matmul_flop_per_second": {
            name: matmul_rate(dtype) for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16))
        },
    }


def _commit() -> str:
    told = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    return told.stdout.strip() or "unknown"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
