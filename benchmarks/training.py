"""Training `transformer:tiny` on windows of 512 bytes, on the standard library's sources, in the precision that the
machine multiplies natively; results are kept by its name.

utilisation    a step's declared FLOPs in matrix products alone, against the step, in turn: how much of the
               machine's matmul rate the training reaches; with and without document borders in the windows
overhead       a step of the trainer (loader, records and all) against the same step written out plainly
compute share  of a run's wall time in forward, backward and optimizer, by the trainer's own clock
loader         a batch of the loader against a step
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F

import everlong
from benchmarks.harness import interleave, record
from everlong.data import Batch, ByteCodec, Loader
from everlong.train import DataConfig, Trainer
from everlong.train.allocator import keep_freed_memory
from everlong.train.learner import Learner
from everlong.train.precision import autocast, dtype_of, native_precision

CPU = torch.device("cpu")
PRESET = "transformer:tiny"
SETTINGS = Trainer.Config(
    precision=native_precision(CPU), steps=40, window=512, batch=16, evaluate_every=None, checkpoint_every=None
)
SIDE = 1024  # of the square matrices that stand for the roofline


def main() -> None:
    """Times all of it and keeps the result."""
    keep_freed_memory()  # as `everlong.train.train` does
    loader = Loader(DataConfig().open(ByteCodec()).train, window=SETTINGS.window, batch=SETTINGS.batch, seed=0)
    record(
        f"training_{SETTINGS.precision}",
        {"utilisation": utilisation(loader), "overhead": overhead(loader), **share(loader)},
    )


def utilisation(loader: Loader) -> dict[str, Any]:
    """Seconds of a step, and the share of the matmul rate that it reaches."""
    model = everlong.build(PRESET)
    learner, batch = Learner(SETTINGS, model), _with_borders(loader)
    flops = 3 * model.flops(SETTINGS.window) * SETTINGS.batch
    sides = {
        "matmul": _products(flops),
        "plain": lambda: learner.learn(replace(batch, documents_BT=None), 1.0),
        "documents": lambda: learner.learn(batch, 1.0),
    }
    timings, ratios = interleave(sides)
    reached = {name: 1 / ratio.median for name, ratio in ratios.items() if name != "matmul"}
    return {"flops": flops, "reached": reached, "timings": timings, "ratio_to_matmul": ratios}


def overhead(loader: Loader) -> dict[str, Any]:
    """A step of the trainer, and a batch of the loader, against the step written out."""
    trainer = Trainer(SETTINGS, everlong.build(PRESET), loader)
    batch = next(loader)
    plain = _written_out(batch)
    timings, ratios = interleave({"written out": plain, "trainer": trainer.advance, "loader": lambda: next(loader)})
    return {"timings": timings, "ratio_to_written_out": ratios}


def share(loader: Loader) -> dict[str, float]:
    """The trainer's own account of a short run."""
    result = Trainer(SETTINGS, everlong.build(PRESET), loader).run()
    return {"compute_share": result.compute_share, "bytes_per_second": result.bytes_seen / result.seconds}


def _with_borders(loader: Loader) -> Batch:
    """A batch with several documents in a row."""
    return next(batch for batch in loader if batch.documents_BT is not None)


def _products(flops: int) -> Callable[[], None]:
    """Square matrix products that take this many FLOPs, to the next whole one."""
    a, b = (torch.randn(SIDE, SIDE).to(dtype_of(SETTINGS.precision)) for _ in range(2))
    out = torch.empty_like(a)

    def run() -> None:
        for _ in range(math.ceil(flops / (2 * SIDE**3))):
            torch.mm(a, b, out=out)

    return run


def _written_out(batch: Batch) -> Callable[[], None]:
    """The same step as anyone would write it for this model alone."""
    model = everlong.build(PRESET)
    optimizer = torch.optim.AdamW(model.parameters(), lr=SETTINGS.optimizer.learning_rate, fused=True)

    def run() -> None:
        with autocast(CPU, SETTINGS.precision):
            logits_BTV = model(batch.ids_BT, documents=batch.documents_BT).logits
            loss = F.cross_entropy(logits_BTV.flatten(0, 1).float(), batch.targets_BT.flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return run


if __name__ == "__main__":
    main()
