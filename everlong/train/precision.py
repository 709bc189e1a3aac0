"""How matrix products are computed while weights stay in float32: as they are, or in bfloat16 by autocast."""

from __future__ import annotations

from typing import Literal

import torch

Precision = Literal["float32", "bfloat16"]

BFLOAT16_PRODUCTS = ("amx_bf16", "avx512_bf16", "bf16")
"""Capabilities of x86 and ARM processors, any of which is enough."""


def default_device() -> torch.device:
    """The accelerator, if there is one."""
    found = torch.accelerator.current_accelerator(check_available=True)
    return torch.device("cpu") if found is None else found


def native_precision(device: torch.device | None = None) -> Precision:
    """bfloat16 where the device has instructions for its products. Elsewhere torch emulates them, which takes many
    times as long as float32 does, on most laptops' processors among others.

    Args:
        device: `None`: the default device.
    """
    device = default_device() if device is None else device
    if device.type == "cpu":
        capabilities = torch.cpu.get_capabilities()
        native = any(capabilities.get(name, False) for name in BFLOAT16_PRODUCTS)
    else:
        native = device.type != "cuda" or torch.cuda.is_bf16_supported(including_emulation=False)
    return "bfloat16" if native else "float32"


def dtype_of(precision: Precision) -> torch.dtype:
    """The type in which products are computed."""
    return torch.bfloat16 if precision == "bfloat16" else torch.float32


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """The context that `precision` asks for. Inside one, each weight is cast once, however often it is used."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16")
