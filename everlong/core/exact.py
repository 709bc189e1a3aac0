"""Scores that decide: computed in float32 or better, whatever the rest is computed in."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


def exactly(layer: nn.Linear, x: Float[Tensor, "*rest d"]) -> Float[Tensor, "*rest e"]:
    """A linear layer in float32 or better, under autocast too: scores that are close must not tie."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    bias = None if layer.bias is None else layer.bias.to(dtype)
    with torch.autocast(x.device.type, enabled=False):
        return F.linear(x.to(dtype), layer.weight.to(dtype), bias)
