"""Dilated attention against causal `F.scaled_dot_product_attention`, on the paper's schedule truncated at the length.

speed      forward and backward, in turn; the ratio against what the FLOPs would give
length     forward and backward a token, of dilated attention alone, at 32K against 256K
memory     highest resident memory of one forward and backward, each in a process of its own, above its inputs
decode     a step of the part after contexts of 32K to 1M, whose caches hold random rows
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from benchmarks.harness import interleave, record
from everlong import Span
from everlong.evaluate.memory import highest_resident
from everlong.sequence.dilated import DilatedAttention, DilatedKeyValues, dilated_attention
from everlong.sequence.dilated_geometry import Geometry
from everlong.sequence.dilation import branches

LENGTHS, DILATIONS = (2048, 4096, 8192, 16384, 32768), (1, 2, 4, 6, 12)
HEAD = 64
SPEEDS = {8192: 4, 16384: 4, 32768: 2}  # positions, and how many heads
LONG = (32768, 262_144)
CONTEXTS = (32_768, 131_072, 1_048_576)
STEPS = 10  # decode steps of one timed run

Sides = dict[str, Callable[..., torch.Tensor]]


def main() -> None:
    """Times all of it and keeps the result."""
    results: dict[str, Any] = {
        "speed": {str(N): speed(N, heads) for N, heads in SPEEDS.items()},
        "length": per_token(*LONG),
        "memory": {str(N): {side: memory(side, N) for side in SIDES} for N in SPEEDS},
        "decode": decode(),
    }
    record("dilated", results)


def dilated(*qkv: torch.Tensor) -> torch.Tensor:
    """The paper's schedule."""
    return dilated_attention(*qkv, *fitting(qkv[0].shape[1]))


def fitting(N: int) -> tuple[list[int], list[int]]:
    """The schedule, without branches beyond the row."""
    count = max(1, sum(w <= N for w in LENGTHS))
    return list(LENGTHS[:count]), list(DILATIONS[:count])


def by_flops(N: int, heads: int) -> float:
    """How often more scores causal attention to everything takes."""
    return heads * N * (N + 1) / 2 / Geometry(branches(*fitting(N)), heads, heads).pairs(N)


def dense(*qkv: torch.Tensor) -> torch.Tensor:
    """Causal attention to everything, by torch."""
    rows = (x.transpose(1, 2) for x in qkv)
    return F.scaled_dot_product_attention(*rows, is_causal=True).transpose(1, 2)


SIDES: Sides = {"dilated": dilated, "dense": dense}


def speed(N: int, heads: int) -> dict[str, Any]:
    """Seconds of both sides, how often faster dilated attention is, and how often by its FLOPs."""
    qkv = _inputs(N, heads)
    timings, ratios = interleave({name: _pass(side, qkv) for name, side in SIDES.items()}, runs=3, warm_up=1)
    theory = by_flops(N, heads)
    reached = ratios["dense"].median
    return {
        "heads": heads,
        "timings": timings,
        "faster": ratios["dense"],
        "by_flops": theory,
        "share": reached / theory,
    }


def per_token(short: int, long: int) -> dict[str, Any]:
    """Seconds a token at two lengths, one head, and their ratio."""
    runs = {str(N): _pass(dilated, _inputs(N, 1)) for N in (short, long)}
    timings, ratios = interleave(runs, runs=3, warm_up=1)
    seconds = {name: timing.median / int(name) for name, timing in timings.items()}
    return {"seconds_per_token": seconds, "ratio": ratios[str(long)].median * short / long}


def memory(side: str, N: int) -> dict[str, float]:
    """Peak above the inputs, in bytes, and in sizes of one (N, heads, head) tensor; measured in another process."""
    command = [sys.executable, "-c", f"from benchmarks.dilated import peak; print(peak({side!r}, {N}))"]
    peak_bytes = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return {"bytes": peak_bytes, "tensors": peak_bytes / (4 * N * SPEEDS[N] * HEAD)}


def peak(side: str, N: int) -> int:
    """Growth of this process's highest resident memory over one forward and backward, in bytes; Linux only."""
    torch.set_num_threads(1)
    _pass(SIDES[side], _inputs(64, 1))()  # loads what it needs
    qkv = _inputs(N, SPEEDS[N])
    before = highest_resident()
    _pass(SIDES[side], qkv)()
    return highest_resident() - before


@torch.inference_mode()
def decode() -> dict[str, Any]:
    """Seconds a step at every context, against the shortest; and the rows that the cache holds."""
    config = DilatedAttention.Config(
        width=4 * HEAD, heads=4, kv_heads=4, position=None, segment_lengths=LENGTHS, dilations=DILATIONS
    )
    part = config.build().eval()
    middle = LENGTHS[0] // 2  # so that no context ends where segments do, and caches are empty
    states = {str(length): _state(part, length - middle) for length in CONTEXTS}
    timings, ratios = interleave({name: _steps(part, state) for name, state in states.items()})
    return {
        "seconds_per_token": {name: timing.median / STEPS for name, timing in timings.items()},
        "ratio_to_shortest": ratios,
        "cache_rows": {name: state.k_BSGD.shape[1] for name, state in states.items()},
    }


def _state(part: DilatedAttention, length: int) -> DilatedKeyValues:
    """A state after `length` positions whose rows are random: what they are does not change the work."""
    rows = part.geometry.entries(length)
    k, v = (torch.randn(1, rows, part.kv_heads, part.head) for _ in "kv")
    return DilatedKeyValues(k, v, torch.empty(1, length, 0, dtype=torch.bool))


def _steps(part: DilatedAttention, state: DilatedKeyValues) -> Callable[[], None]:
    x_B1D, ids_B1 = torch.randn(1, 1, part.width), torch.zeros(1, 1, dtype=torch.int64)

    def run() -> None:
        ahead = state
        for _ in range(STEPS):
            _, ahead = part(x_B1D, Span.plain_from(ids_B1), ahead)

    return run


def _inputs(N: int, heads: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(1, N, heads, HEAD, generator=generator).requires_grad_() for _ in "qkv"]


def _pass(side: Callable[..., torch.Tensor], qkv: list[torch.Tensor]) -> Callable[[], object]:
    """One forward and backward."""
    return lambda: torch.autograd.grad(side(*qkv).sum(), qkv)


if __name__ == "__main__":
    main()
