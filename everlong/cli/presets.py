"""`everlong presets`."""

from __future__ import annotations

import torch

import everlong
from everlong.cli.tables import memory, show
from everlong.core.accounting import parameter_count
from everlong.train.console import si


def presets() -> None:
    """List the architectures and their sizes.

    Of each: parameters, forward FLOPs of a token in a document of 1,024, and the memory that its state takes after
    a thousand and after a million tokens.

    For example:
      everlong presets
    """
    show(("preset", ">parameters", ">FLOP/token", ">state at 1K", ">at 1M"), map(_row, everlong.presets()))


def _row(name: str) -> tuple[str, ...]:
    with torch.device("meta"):  # no weight is allocated
        model = everlong.build(name)
    parameters, flops = si(float(parameter_count(model))), si(model.flops(1 << 10) / (1 << 10))
    return name, parameters, flops, memory(model.state_bytes(1 << 10)), memory(model.state_bytes(1 << 20))
