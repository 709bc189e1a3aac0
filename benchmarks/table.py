"""Tables of n-gram memory: what a training step costs, on the rows of a batch and on where the table lives.

rows        a step (look up, backward, row-wise Adagrad) on a table of 100M rows against one of 1M
adam        Adam on the active rows of a table of 1M against torch's Adam on the whole of it
memory      bytes of a table and of all that its optimizer remembers, against the table's own
disk        the same step on a table in a file, its rows asked for one step ahead, against a table in memory; warm
inference   a forward of `engram:tiny` on the standard library's sources, its rows in a file against in memory

A step looks up 65,536 rows of 32 numbers. Its n-grams are drawn from Zipf's law, of exponent 1.2, and hashed, as those
of text are; in `uniform` every row is as likely. A few batches are taken in turn, and are warm: what a row costs when
it is first touched is not in it.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import everlong
from benchmarks.harness import interleave, record
from everlong.core.span import Span
from everlong.data import ByteCodec, Loader
from everlong.memory.prefetch import prefetch
from everlong.memory.storage import on_disk, warm
from everlong.memory.table import Table
from everlong.train import DataConfig
from everlong.train.allocator import keep_freed_memory
from everlong.train.row_adam import RowAdam
from everlong.train.row_optimizer import RowOptimizer
from everlong.train.rowwise_adagrad import RowwiseAdagrad

FEW, MANY, WIDTH, READS = 10**6, 10**8, 32, 65_536
BATCHES, RUNS = 4, 25  # a few batches are taken in turn
FOLDER = Path(tempfile.gettempdir())  # where tables in files live


def main() -> None:
    """Times all of it and keeps the result."""
    keep_freed_memory()  # as `everlong.train.train` does
    record(
        "table",
        {
            "rows": {law: rows(law) for law in ("zipf", "uniform")},
            "adam": adam(),
            "memory": memory(),
            "disk": {law: disk(law) for law in ("zipf", "uniform")},
            "inference": inference(),
        },
    )


def rows(law: str) -> dict[str, Any]:
    """A step on few rows and on many."""
    return timed({f"{count:,}": step(Table(count, WIDTH), RowwiseAdagrad.Config(), law) for count in (FEW, MANY)})


def adam() -> dict[str, Any]:
    """Adam on active rows and on all."""
    table = Table(FEW, WIDTH)
    optimizer = torch.optim.Adam([table.rows], lr=1e-3)
    draws = itertools.cycle(batches("zipf", FEW))

    def whole() -> None:
        learn(torch.nn.functional.embedding(next(draws), table.rows))
        optimizer.step()
        optimizer.zero_grad()

    return timed({"active rows": step(Table(FEW, WIDTH), RowAdam.Config(), "zipf"), "whole table": whole})


def memory() -> dict[str, float]:
    """Bytes in all over bytes of the table, with what tells which rows a checkpoint lacks."""
    found = {}
    for config in (RowwiseAdagrad.Config(), RowAdam.Config()):
        table = Table(FEW, WIDTH)
        optimizer = config.build([{"params": [table.rows], "lr": 1e-3}])
        kept = [table.rows, *optimizer.remember(table.rows).values(), optimizer.changed[table.rows]]
        found[type(optimizer).__name__] = sum(tensor.nbytes for tensor in kept) / table.rows.nbytes
    return found


def disk(law: str) -> dict[str, Any]:
    """A step in memory and in a file."""
    with on_disk(FOLDER):
        filed = Table(FEW * 10, WIDTH)
    kept = Table(FEW * 10, WIDTH)
    config = RowwiseAdagrad.Config()
    return timed({"memory": step(kept, config, law), "file": step(filed, config, law, ahead=True)})


@torch.inference_mode()
def inference() -> dict[str, Any]:
    """Forwards over real text."""
    sizes = {"rows": MANY // 5, "memory_layers": (1,)}  # five orders of one head
    kept = everlong.build("engram:tiny", **sizes).eval()
    with on_disk(FOLDER):
        filed = everlong.build("engram:tiny", **sizes).eval()
    loader = Loader(DataConfig().open(ByteCodec()).train, window=512, batch=8, seed=0)
    texts = [next(loader).ids_BT for _ in range(BATCHES)]
    for model in (kept, filed):
        for ids_BT in texts:
            fill(model, ids_BT)
    return timed({"memory": forwards(kept, texts), "file": forwards(filed, texts)})


def fill(model: everlong.LanguageModel, ids_BT: Tensor) -> None:
    """Writes something to the rows of a text, so that they are there to be read."""
    for module in model.modules():
        if hasattr(module, "table") and hasattr(module, "hash"):
            module.table.rows[module.hash(Span.plain_from(ids_BT))[0].flatten()] = 0.01


def forwards(model: everlong.LanguageModel, texts: list[Tensor]) -> Callable[[], None]:
    """One text after the other; the rows of the next are asked for."""
    turn = itertools.cycle(itertools.pairwise([*texts, texts[0]]))

    def run() -> None:
        now, then = next(turn)
        prefetch(model, Span.plain_from(then))
        model(now)

    return run


def step(table: Table, config: RowOptimizer.Config, law: str, *, ahead: bool = False) -> Callable[[], None]:
    """A step of training of a table alone; `ahead`: the rows of the next one are asked for."""
    optimizer = config.build([{"params": [table.rows], "lr": 1e-3}])
    draws: Iterator[tuple[Tensor, Tensor]] = itertools.cycle(
        itertools.pairwise([*(found := batches(law, len(table.rows))), found[0]])
    )

    def run() -> None:
        now, then = next(draws)
        if ahead:
            warm(table.rows, then)
        learn(table(now))
        optimizer.step()
        optimizer.zero_grad()

    return run


def learn(rows: Tensor) -> None:
    """A backward pass whose gradient is as dense as that of a layer."""
    (rows * 0.5 + 0.1).square().sum().backward()


def batches(law: str, count: int) -> list[Tensor]:
    """Which rows some batches look up."""
    draw = np.random.default_rng(0)
    if law == "uniform":
        return [torch.from_numpy(draw.integers(0, count, READS)) for _ in range(BATCHES)]
    grams = [torch.from_numpy(draw.zipf(1.2, READS) % 2**40) for _ in range(BATCHES)]
    return [(gram * 76_632_096_045 ^ gram * 4_839_876_093) % count for gram in grams]


def timed(sides: dict[str, Callable[[], None]]) -> dict[str, Any]:
    """Seconds, and ratios to the first side."""
    timings, ratios = interleave(sides, runs=RUNS, warm_up=BATCHES)
    return {"timings": timings, "ratio": ratios}


if __name__ == "__main__":
    main()
