"""The machine's matrix product rate, which utilisation is measured against."""

from __future__ import annotations

import statistics
import time

import torch

SECONDS = 0.3
"""How long one measurement takes."""


def matmul_rate(dtype: torch.dtype, device: torch.device | str = "cpu", seconds: float = SECONDS) -> float:
    """Median FLOP/s of square matrix products, a multiply-add counted as two.

    Args:
        dtype: of both factors and of the product.
        seconds: time to spend; a few products more than fit in it are made, to warm up.
    """
    device = torch.device(device)
    n = 1024 if device.type == "cpu" else 8192
    generator = torch.Generator(device).manual_seed(0)  # and no draw from the one that training draws from
    a, b = (torch.randn(n, n, device=device, generator=generator).to(dtype) for _ in range(2))
    out = torch.empty_like(a)
    for _ in range(3):
        torch.mm(a, b, out=out)
    times: list[float] = []
    while not times or sum(times) < seconds:
        times.append(_timed(a, b, out))
    return 2 * n**3 / statistics.median(times)


def _timed(a: torch.Tensor, b: torch.Tensor, out: torch.Tensor) -> float:
    if a.device.type != "cpu":
        torch.accelerator.synchronize(a.device)
    begun = time.perf_counter()
    torch.mm(a, b, out=out)
    if a.device.type != "cpu":
        torch.accelerator.synchronize(a.device)
    return time.perf_counter() - begun
