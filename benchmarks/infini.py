"""Infini-attention: what the memory costs beside local attention, and a million tokens in constant memory.

layer      one layer against itself without a memory (local attention and projections), 32K positions, segments of 2048:
           forward, and forward with backward, for every update; the allocator keeps freed memory, as in training
segments   forward of the same at shorter segments, where the memory is written more often
stream     1M tokens through `infini:tiny`: seconds a token and the process's memory, tenth by tenth
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import everlong
from benchmarks.harness import interleave, record
from everlong import Span
from everlong.evaluate.memory import highest_resident
from everlong.model.presets.infini import UPDATES
from everlong.sequence.infini import InfiniAttention, InfiniState
from everlong.sequence.position import Rotary
from everlong.train.allocator import keep_freed_memory

POSITIONS, WIDTH, HEADS = 32_768, 512, 8
SEGMENTS = (128, 512)
RUNS = 11
TOKENS, CALL = 2**20, 4096
PARTS = 10  # of the stream, each measured on its own


def main() -> None:
    """Times all of it and keeps the result."""
    keep_freed_memory()
    results: dict[str, Any] = {
        "layer": {"forward": layer(2048, backward=False), "backward": layer(2048, backward=True)},
        "segments": {str(N): layer(N, backward=False) for N in SEGMENTS},
        "stream": _elsewhere("stream"),
    }
    record("infini", results)


class Local(InfiniAttention):
    """Infini-attention without a memory."""

    def hear_plain(
        self, q_BTHE: Tensor, k_BTGE: Tensor, v_BTGE: Tensor, span: Span, state: InfiniState
    ) -> tuple[Tensor, InfiniState]:
        shape = (q_BTHE.shape[1] // self.segment, self.segment)
        q_BTHE, k_BTGE = self.turned(q_BTHE, k_BTGE, span)
        return self.local(q_BTHE, k_BTGE, v_BTGE, 0, shape), state


def layer(segment: int, *, backward: bool) -> dict[str, Any]:
    """Seconds of every update, and how often longer than the layer without a memory."""
    numbers = {"width": WIDTH, "heads": HEADS, "kv_heads": HEADS, "position": Rotary.Config(), "segment": segment}
    parts = {"local": Local(InfiniAttention.Config(**numbers))}
    parts |= {name: InfiniAttention.Config(**numbers, update=update).build() for name, update in UPDATES.items()}
    runs = {name: _pass(part, backward) for name, part in parts.items()}
    timings, ratios = interleave(runs, runs=RUNS, warm_up=1)
    return {"seconds": timings, "ratio_to_local": ratios}


def _pass(part: InfiniAttention, backward: bool) -> Callable[[], object]:
    x_BTD, span = torch.randn(1, POSITIONS, WIDTH), Span.plain_from(torch.zeros(1, POSITIONS, dtype=torch.long))

    def run() -> None:
        with torch.set_grad_enabled(backward):
            y_BTD, _ = part(x_BTD, span)
        if backward:
            torch.autograd.grad(y_BTD.sum(), list(part.parameters()), allow_unused=True)

    return run


def _elsewhere(function: str) -> Any:
    """What a function of this file tells in a process of its own."""
    command = [
        sys.executable,
        "-c",
        f"import json; from benchmarks.infini import {function} as f; print(json.dumps(f()))",
    ]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@torch.inference_mode()
def stream() -> dict[str, Any]:
    """Seconds a token in every part of the stream, and by how much the process's memory grew after the first."""
    model, generator, state = everlong.build("infini:tiny").eval(), torch.Generator().manual_seed(0), None
    seconds, resident = [], []
    for _ in range(PARTS):
        began, calls = time.perf_counter(), TOKENS // CALL // PARTS
        for _ in range(calls):
            state = model(torch.randint(256, (1, CALL), generator=generator), state).state
        seconds.append((time.perf_counter() - began) / (calls * CALL))
        resident.append(highest_resident())
    return {
        "tokens": TOKENS // CALL // PARTS * PARTS * CALL,
        "seconds_per_token": seconds,
        "last_to_first": seconds[-1] / seconds[0],
        "growth_bytes": resident[-1] - resident[0],
        "state_bytes": model.state_bytes(TOKENS),
    }


if __name__ == "__main__":
    main()
