"""Dilated attention on a CUDA GPU in bfloat16, on the paper's schedule truncated at the length, 8K to 1M tokens.

dilated         this library's: strided views into torch's fused operators, one merged backward
flash           causal `F.scaled_dot_product_attention` through FlashAttention
gather_scatter  the authors' published formulation (`gather_scatter.py`), through the same operator

Forward, and forward and backward, in turn; ratios to dilated attention beside those of the FLOPs; the highest allocated
memory of one forward and backward above its inputs, in sizes of one (N, heads, head) tensor.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.dilated import Sides, by_flops, dilated, fitting
from benchmarks.gather_scatter import gather_scatter_attention
from benchmarks.harness import interleave, record
from everlong.core.errors import ConfigError
from everlong.train.roofline import matmul_rate

LENGTHS = tuple(2**k for k in range(13, 21))
HEADS, HEAD = 12, 64  # the paper's
RUNS = 5


def main() -> None:
    """Times all of it and keeps the result."""
    if not torch.cuda.is_available():
        raise ConfigError("device", "no CUDA GPU", "this benchmark needs one; on a CPU run `benchmarks dilated`")
    device = torch.cuda.get_device_name()
    results = {str(N): measure(N, "cuda") for N in LENGTHS}
    rate = matmul_rate(torch.bfloat16, "cuda")
    record("dilated_cuda", {"device": device, "matmul_flop_per_second": rate, "lengths": results})


def flash(*qkv: torch.Tensor) -> torch.Tensor:
    """Causal attention to everything, by FlashAttention or not at all."""
    rows = (x.transpose(1, 2) for x in qkv)
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        return F.scaled_dot_product_attention(*rows, is_causal=True).transpose(1, 2)


def gather_scatter(*qkv: torch.Tensor) -> torch.Tensor:
    """The same schedule as `dilated`."""
    return gather_scatter_attention(*qkv, *fitting(qkv[0].shape[1]))


SIDES: Sides = {"dilated": dilated, "flash": flash, "gather_scatter": gather_scatter}


def measure(N: int, device: str) -> dict[str, Any]:
    """Seconds of every side, how often longer each takes than dilated attention, and its memory."""
    generator = torch.Generator(device).manual_seed(0)
    shape = (1, N, HEADS, HEAD)
    qkv = [torch.randn(shape, generator=generator, device=device, dtype=torch.bfloat16).requires_grad_() for _ in "qkv"]
    found: dict[str, Any] = {"flash_by_flops": by_flops(N, HEADS)}
    for name, work in (("forward", _forward), ("forward and backward", _backward)):
        timings, ratios = interleave({side: work(SIDES[side], qkv) for side in SIDES}, runs=RUNS)
        found[name] = {"timings": timings, "ratio_to_dilated": ratios}
    if device == "cuda":
        found["tensors"] = {side: _peak(_backward(SIDES[side], qkv)) / (2 * qkv[0].numel()) for side in SIDES}
    return found


def _forward(side: Callable[..., torch.Tensor], qkv: list[torch.Tensor]) -> Callable[[], None]:
    def run() -> None:
        with torch.no_grad():
            side(*qkv)
        _finish(qkv[0])

    return run


def _backward(side: Callable[..., torch.Tensor], qkv: list[torch.Tensor]) -> Callable[[], None]:
    def run() -> None:
        torch.autograd.grad(side(*qkv).sum(), qkv)
        _finish(qkv[0])

    return run


def _finish(x: torch.Tensor) -> None:
    if x.is_cuda:
        torch.cuda.synchronize()


def _peak(run: Callable[[], None]) -> int:
    """Bytes allocated at the most, above those at the start."""
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run()
    return torch.cuda.max_memory_allocated() - before


if __name__ == "__main__":
    main()
