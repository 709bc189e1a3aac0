"""MEGABYTE against a dense byte transformer of as many parameters, and a larger MEGABYTE against the dense one.

Every comparison is made in turn in one run: a training step at 8192 bytes, decoding from an empty and from a full
context, and the paper's headline: a MEGABYTE with at least four times the parameters writes 8192 bytes faster.

    python -m benchmarks.megabyte              the comparisons
    python -m benchmarks.megabyte peer         generation against the package `megabyte-pytorch`, which keeps no cache
    python -m benchmarks.megabyte million      forward and backward over one sequence of 2^20 bytes
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

import everlong
from benchmarks.harness import interleave, record
from everlong.core.accounting import parameter_count
from everlong.data import IGNORED, ByteCodec, Loader
from everlong.evaluate.memory import highest_resident
from everlong.train import DataConfig
from everlong.train.allocator import return_freed_memory
from everlong.train.recompute import recomputed

CONTEXT = 8192
STEPS = 64  # bytes of one timed stretch of decoding: whole patches
DENSE: dict[str, Any] = {"layers": 8, "width": 256, "heads": 4, "hidden": 704}
EQUAL: dict[str, Any] = {"layers": 3, "width": 384, "heads": 6, "local_layers": 3, "local_width": 160}
LARGER: dict[str, Any] = {"layers": 6, "width": 640, "heads": 10, "local_layers": 2, "local_width": 128}


def main() -> None:
    """Times everything and keeps the result."""
    dense = everlong.build("transformer:nano", **DENSE)
    models = {
        "dense": dense,
        "megabyte": everlong.build("megabyte:nano", **EQUAL, local_heads=2),
        "larger megabyte": everlong.build("megabyte:nano", **LARGER, local_heads=2),
    }
    results: dict[str, Any] = {"parameters": {name: parameter_count(model) for name, model in models.items()}}
    equal = {name: models[name] for name in ("dense", "megabyte")}
    results["training step"] = timed({name: training_step(model) for name, model in equal.items()}, runs=5)
    for context in (0, CONTEXT - STEPS):
        results[f"decoding at {context}"] = timed({name: decoding(model, context) for name, model in models.items()})
    results["writing 8192 bytes"] = timed(
        {name: writing(models[name]) for name in ("dense", "larger megabyte")},
        runs=2,
        warm_up=0,  # minutes
    )
    record("megabyte", results)


def timed(sides: dict[str, Callable[[], object]], **numbers: int) -> dict[str, Any]:
    """Seconds of every side, and how many times as long as the first each takes."""
    timings, ratios = interleave(sides, **numbers)
    return {"seconds": timings, "ratio to the first": ratios}


def training_step(model: everlong.LanguageModel) -> Callable[[], None]:
    """Forward, backward and AdamW over one row of `CONTEXT` bytes."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    ids_BT = torch.randint(256, (1, CONTEXT + 1))

    def run() -> None:
        logits_BTV = model(ids_BT[:, :-1]).logits
        F.cross_entropy(logits_BTV.flatten(0, 1), ids_BT[:, 1:].flatten()).backward()
        optimizer.step()
        optimizer.zero_grad()

    return run


def decoding(model: everlong.LanguageModel, context: int) -> Callable[[], None]:
    """`STEPS` bytes, one by one, after a context."""
    with torch.inference_mode():
        state = model(torch.randint(256, (1, context))).state if context else None
    return lambda: _decode(model, state, STEPS)


def writing(model: everlong.LanguageModel) -> Callable[[], None]:
    """A whole context, byte by byte."""
    return lambda: _decode(model, None, CONTEXT)


@torch.inference_mode()
def _decode(model: everlong.LanguageModel, state: everlong.StreamState | None, steps: int) -> None:
    ids_11 = torch.zeros(1, 1, dtype=torch.int64)
    for _ in range(steps):
        output = model(ids_11, state)
        ids_11, state = output.logits.argmax(-1), output.state


def peer() -> None:
    """A byte at the full context: cached here, and by the package `megabyte-pytorch` (pip install megabyte-pytorch)."""
    model = everlong.build("megabyte:nano", **EQUAL, local_heads=2)
    other = _uncached()
    parameters = {"megabyte": parameter_count(model), "megabyte-pytorch": parameter_count(other)}
    ids_BT = torch.randint(256, (1, CONTEXT))
    with torch.inference_mode():
        state = model(ids_BT[:, :-STEPS]).state

    @torch.inference_mode()
    def theirs() -> None:  # what its `generate` does for every byte
        other(ids_BT)

    timings, ratios = interleave({"megabyte": lambda: _decode(model, state, STEPS), "megabyte-pytorch": theirs}, runs=5)
    settings = {"parameters": parameters, "bytes": {"megabyte": STEPS, "megabyte-pytorch": 1}}
    per_byte = STEPS * ratios["megabyte-pytorch"].median
    record("megabyte_pytorch", {**settings, "seconds": timings, "ratio": ratios, "times_as_long_a_byte": per_byte})


def _uncached() -> torch.nn.Module:
    from MEGABYTE_pytorch import MEGABYTE  # type: ignore[import-not-found]

    return MEGABYTE(
        num_tokens=256, dim=(384, 128), depth=(3, 5), max_seq_len=(CONTEXT // 8, 8), dim_head=64, heads=4
    ).eval()


def million() -> None:
    """Forward and backward over one sequence of 2^20 bytes with `megabyte:tiny`, its blocks recomputed: the loss, its
    gradient's norm, seconds and memory. Before that, the same over 2^16 bytes against pieces whose state is carried
    with its gradient: how far the two gradients are apart, relative to their norm."""
    return_freed_memory()  # or the process grows to twice what it holds
    model = everlong.build("megabyte:tiny")
    apart = gradients_apart(model, 2**16)
    peak_before = highest_resident()
    began = time.perf_counter()
    nats, gradient = whole(model, 2**20)
    found = {
        "nats_per_byte": nats,
        "gradient_norm": gradient.norm().item(),
        "seconds": time.perf_counter() - began,
        "peak_bytes": highest_resident(),
        "peak_bytes_before": peak_before,
        "gradients_apart": apart,
    }
    record("megabyte_million", found)


def gradients_apart(model: everlong.LanguageModel, count: int) -> float:
    """The largest distance of one gradient's norm: one sequence at once, and in four pieces."""
    _, at_once = whole(model, count)
    state, total = None, torch.zeros(())
    given, targets = sequence(count)
    for ids_1T, targets_1T in zip(given.chunk(4, 1), targets.chunk(4, 1), strict=True):
        output = model(ids_1T, state)
        total, state = total + summed_nats(output.logits, targets_1T) / count, output.state
    total.backward()
    in_pieces = gradient_of(model)
    return ((at_once - in_pieces).norm() / in_pieces.norm()).item()


def whole(model: everlong.LanguageModel, count: int) -> tuple[float, torch.Tensor]:
    """Nats per byte, and the gradient, of one sequence in one call."""
    ids_1T, targets_1T = sequence(count)
    with recomputed(model, carry=False):
        loss = summed_nats(model(ids_1T).logits, targets_1T) / count
        loss.backward()
    return loss.item(), gradient_of(model)


def summed_nats(logits_1TV: torch.Tensor, targets_1T: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(logits_1TV[0], targets_1T[0], ignore_index=IGNORED, reduction="sum")


def gradient_of(model: everlong.LanguageModel) -> torch.Tensor:
    """All gradients as one vector; they are cleared."""
    gradient = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    model.zero_grad()
    return gradient


def sequence(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The standard library's sources as one row, and the byte after each."""
    batch = next(Loader(DataConfig().open(ByteCodec()).train, window=count, batch=1, seed=0))
    return batch.ids_BT, batch.targets_BT


if __name__ == "__main__":
    {"": main, "million": million, "peer": peer}["".join(sys.argv[1:])]()
