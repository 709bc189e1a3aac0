"""Experts against one SwiGLU of equal active FLOPs: forward and backward, in turn.

Every case gives seconds of both and how often longer the experts take; beside them the same experts with the products
taken one group after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from benchmarks.harness import interleave, record
from everlong import Part, Span
from everlong.kernels import grouped
from everlong.train.allocator import keep_freed_memory
from everlong.width.experts import Experts
from everlong.width.swiglu import SwiGLU

POSITIONS = 4096
CASES: dict[str, dict[str, Any]] = {
    "512 wide, 2 of 16": {"width": 512, "hidden": 512, "experts": 16, "active": 2, "shared": 0},
    "512 wide, 3 of 16 and one shared": {"width": 512, "hidden": 344, "experts": 16, "active": 3, "shared": 1},
    "256 wide, 3 of 16 and one shared": {"width": 256, "hidden": 176, "experts": 16, "active": 3, "shared": 1},
}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def main() -> None:
    """Times all of it and keeps the result."""
    keep_freed_memory()  # as `everlong.train.train` does
    record(
        "experts",
        {
            f"{case}, {name}": measure(numbers, dtype)
            for case, numbers in CASES.items()
            for name, dtype in DTYPES.items()
        },
    )


def measure(numbers: dict[str, Any], dtype: torch.dtype) -> dict[str, Any]:
    """Seconds of the dense layer, of experts, and of experts group by group; ratios to the dense one."""
    hidden = numbers["hidden"] * (numbers["active"] + numbers["shared"])
    dense = SwiGLU.Config(width=numbers["width"], hidden=hidden).build().to(dtype)
    experts = Experts.Config(**numbers).build().to(dtype)
    in_turn = _pass(experts, numbers["width"], dtype)

    def one_by_one() -> None:
        with _without_grouped_products():
            in_turn()

    sides = {"dense": _pass(dense, numbers["width"], dtype), "experts": in_turn, "experts, one by one": one_by_one}
    timings, ratios = interleave(sides)
    extra = experts.flops(POSITIONS) / dense.flops(POSITIONS)
    return {"timings": timings, "ratio_to_dense": ratios, "by_flops": extra}


@contextmanager
def _without_grouped_products() -> Iterator[None]:
    available, grouped.available = grouped.available, lambda: False
    try:
        yield
    finally:
        grouped.available = available


def _pass(part: Part, width: int, dtype: torch.dtype) -> Callable[[], None]:
    """One forward and backward, of input and weights."""
    generator = torch.Generator().manual_seed(0)
    x_BTD = torch.randn(8, POSITIONS // 8, width, generator=generator).to(dtype).requires_grad_()
    span = Span.plain_from(torch.zeros(8, POSITIONS // 8, dtype=torch.int64))

    def run() -> None:
        y_BTD, _ = part(x_BTD, span)
        y_BTD.square().sum().backward()
        part.zero_grad()

    return run


if __name__ == "__main__":
    main()
