"""Engram: what the last few tokens recall, gated by what the model has in mind (arXiv 2601.07372, sec. 2.3).

Legend: B batch rows, T positions, D width, A addresses a position, M = A times the width of a row.

With e_t the rows that the n-grams ending at t address, side by side, and h_t the vector at t,

    k_t = W_K e_t,   v_t = W_V e_t,   s_t = rms_norm(h_t) . rms_norm(k_t) / sqrt(D),
    y_t = sigmoid(sign(s_t) sqrt(max(|s_t|, 1e-6))) v_t.

The signed square root is that of the authors' reference code and of the released model; eq. 4 of the paper has the
plain sigmoid. The rows are zero at first, and so is y: inserting an Engram changes nothing. The paper's short
convolution of y is left out, as in the released model.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from everlong.core.accounting import linear_flops
from everlong.core.config import check
from everlong.core.norm import RMSNorm
from everlong.core.part import Part
from everlong.core.span import Span
from everlong.core.state import State
from everlong.memory.hashing import NGramHash
from everlong.memory.table import Table


class EngramState(State):
    """The last tokens of each row's document."""

    history_BL: Int64[Tensor, "b l"]


class Engram(Part):
    """Gated n-gram memory. State: the last N - 1 token ids, constant."""

    class Config(Part.Config):
        hash: NGramHash.Config
        """Which rows the last tokens address."""
        row_width: int
        """Numbers of a row."""

    def __init__(self, config: Engram.Config) -> None:
        super().__init__()
        check(config.width >= 1, "engram.width", config.width, "must be at least 1")
        check(config.row_width >= 1, "engram.row_width", config.row_width, "must be at least 1")
        memory = config.hash.addresses * config.row_width
        self.hash = config.hash.build()
        self.table = Table(config.hash.rows, config.row_width)
        self.key, self.value = (nn.Linear(memory, config.width, bias=False) for _ in range(2))
        self.query_norm, self.key_norm = RMSNorm(config.width), RMSNorm(config.width)

    def forward(
        self, x_BTD: Float[Tensor, "b t d"], span: Span, state: EngramState | None = None
    ) -> tuple[Float[Tensor, "b t d"], EngramState]:
        address_BTA, history_BL = self.hash(span, None if state is None else state.history_BL)
        e_BTM = self.table(address_BTA).flatten(-2)
        gate_BT1 = gate(self.query_norm(x_BTD), self.key_norm(self.key(e_BTM)))
        return gate_BT1.to(x_BTD.dtype) * self.value(e_BTM).to(x_BTD.dtype), EngramState(history_BL)

    def flops(self, T: int) -> int:
        return linear_flops(self.key, self.value, T=T)

    def state_bytes(self, T: int) -> int:
        return 8 * self.hash.lags


def gate(h_BTD: Float[Tensor, "b t d"], k_BTD: Float[Tensor, "b t d"]) -> Float[Tensor, "b t 1"]:
    """How much of its memory a position lets in, from its normalised vector and the normalised key; in float32 or
    better, for the slope of the square root is steep close to 0."""
    exact = torch.promote_types(h_BTD.dtype, torch.float32)
    score_BT1 = (h_BTD.to(exact) * k_BTD.to(exact)).sum(-1, keepdim=True) * h_BTD.shape[-1] ** -0.5
    return torch.sigmoid(score_BT1.sign() * score_BT1.abs().clamp(min=1e-6).sqrt())
