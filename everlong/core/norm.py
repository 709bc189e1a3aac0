"""Root mean square normalisation (Zhang & Sennrich 2019, arXiv 1910.07467): y = x / rms(x) * g."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class RMSNorm(nn.RMSNorm):
    """`torch.nn.RMSNorm` whose weight follows the input's dtype.

    Under autocast the input is bfloat16 while the weight stays float32; the mixed pair would fall off torch's
    fused path and return float32.
    """

    def __init__(self, width: int, eps: float = 1e-6) -> None:
        super().__init__(width, eps=eps)

    def forward(self, x: Float[Tensor, "*rest d"]) -> Float[Tensor, "*rest d"]:
        return F.rms_norm(x, self.normalized_shape, self.weight.to(x.dtype), self.eps)
