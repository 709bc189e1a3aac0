"""SwiGLU feed-forward (Shazeer 2020, arXiv 2002.05202, eq. 6): y = W_out (silu(W_gate x) * W_in x)."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from everlong.core.accounting import linear_flops
from everlong.core.config import check
from everlong.core.part import Part
from everlong.core.span import Span


class SwiGLU(Part):
    """Position-wise; stateless."""

    class Config(Part.Config):
        hidden: int
        """Size of the gated layer; 8/3 of the width keeps the parameters of a plain layer four times as wide."""

    def __init__(self, config: SwiGLU.Config) -> None:
        super().__init__()
        check(config.width >= 1, "swiglu.width", config.width, "must be at least 1")
        check(config.hidden >= 1, "swiglu.hidden", config.hidden, "must be at least 1")
        self.gate = nn.Linear(config.width, config.hidden, bias=False)
        self.input = nn.Linear(config.width, config.hidden, bias=False)
        self.out = nn.Linear(config.hidden, config.width, bias=False)

    def forward(
        self, x_BTD: Float[Tensor, "b t d"], span: Span, state: None = None
    ) -> tuple[Float[Tensor, "b t d"], None]:
        return self.out(F.silu(self.gate(x_BTD)) * self.input(x_BTD)), None

    def flops(self, T: int) -> int:
        return linear_flops(self.gate, self.input, self.out, T=T)

    def state_bytes(self, T: int) -> int:
        return 0

    def residual_writers(self) -> list[nn.Linear]:
        return [self.out]
