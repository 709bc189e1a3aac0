"""Functions that are as exact as their numbers, where the usual forms are not."""

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


def softplus(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """log(1 + exp(x)). torch's own returns x above 20 unless it is told otherwise, and is off by 2e-9 there."""
    return F.softplus(x, threshold=40.0)
