"""Mamba (Gu & Dao 2023, arXiv 2312.00752, sections 3.4 to 3.6): the selective state-space layer with a rate a number.

Legend: B batch rows, T positions, D width, E inner width, N state size, R rank of the step sizes, K taps, L = K - 1
positions of the convolution.

    x, z    = W_in x,                                      x = silu(convolution(x))
    r, B, C = W_x x,   dt = softplus(W_dt r + b_dt),       A = -exp(A_log)
    h_t     = exp(dt_t A) * h_{t-1} + dt_t x_t B_t^T,      y_t = h_t C_t + D x_t
    out     = W_out (y silu(z))
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from everlong.core.accounting import Hint, element_bytes, linear_flops
from everlong.core.config import check
from everlong.core.exact import softplus
from everlong.core.part import Part
from everlong.core.span import Span
from everlong.core.state import State
from everlong.kernels.selective_scan import selective_scan
from everlong.sequence.mamba_pieces import CausalConvolution, initial_dt_bias
from everlong.sequence.mamba_rows import Rows


class Mamba1State(State):
    """The last inputs of the convolution, and the sums of every channel, in float32 or better."""

    past_BLE: Float[Tensor, "b l e"]
    h_BEN: Float[Tensor, "b e n"]


class Mamba1(Part):
    """The first Mamba. State: K - 1 inputs of the convolution and N numbers a channel; constant."""

    hints = {"A_log": Hint(decay=False, matrix=False)}  # noqa: RUF012

    class Config(Part.Config):
        inner: int
        """E, twice the width in the paper."""
        rank: int
        """R, numbers from which a position's step sizes are made; 1/16 of the width in the paper."""
        state_size: int = 16
        """N."""
        taps: int = 4
        """K, positions that the convolution sees, the current one among them."""

    def __init__(self, config: Mamba1.Config) -> None:
        super().__init__()
        for field in ("width", "inner", "rank", "state_size"):
            check(getattr(config, field) >= 1, f"mamba1.{field}", getattr(config, field), "must be at least 1")
        self.config, E, N = config, config.inner, config.state_size
        self.input = nn.Linear(config.width, 2 * E, bias=False)
        self.convolution = CausalConvolution(E, config.taps, bias=True)
        self.select = nn.Linear(E, config.rank + 2 * N, bias=False)
        self.step = nn.Linear(config.rank, E)
        self.A_log = nn.Parameter(torch.arange(1.0, N + 1).log().repeat(E, 1))
        self.D = nn.Parameter(torch.ones(E))
        self.out = nn.Linear(E, config.width, bias=False)
        with torch.no_grad():
            nn.init.uniform_(self.step.weight, -(config.rank**-0.5), config.rank**-0.5)
            self.step.bias.copy_(initial_dt_bias(E))

    def forward(
        self, x_BTD: Float[Tensor, "b t d"], span: Span, state: Mamba1State | None = None
    ) -> tuple[Float[Tensor, "b t d"], Mamba1State]:
        rows = Rows.of(span)
        x_BTE, z_BTE = self.input(rows.compact(x_BTD)).chunk(2, dim=-1)
        exact_BTE, past_BLE = self.convolution(x_BTE, rows, None if state is None else state.past_BLE)
        selected_BTM = self.select(exact_BTE.to(x_BTE.dtype))
        r_BTR, B_BTN, C_BTN = selected_BTM.split([self.config.rank, *[self.config.state_size] * 2], dim=-1)
        dt_BTE = self.step(r_BTR).to(exact_BTE.dtype)
        with torch.autocast(x_BTD.device.type, enabled=False):  # the sums outgrow bfloat16
            dt_BTE = rows.mask(softplus(dt_BTE))
            A_EN = -self.A_log.to(dt_BTE.dtype).exp()
            masks = {"state": None if state is None else state.h_BEN, "documents": rows.document_BT}
            y_BTE, h_BEN = selective_scan(exact_BTE, dt_BTE, A_EN, B_BTN, C_BTN, **masks)
            y_BTE = torch.addcmul(y_BTE, exact_BTE, self.D.to(y_BTE.dtype)) * F.silu(z_BTE.to(y_BTE.dtype))
        return rows.restore(self.out(y_BTE.to(z_BTE.dtype))), Mamba1State(past_BLE, h_BEN)

    def flops(self, T: int) -> int:
        recurrence = 4 * self.config.inner * self.config.state_size  # the outer product, and the query's with the sum
        return linear_flops(self.input, self.select, self.step, self.out, T=T) + T * recurrence

    def state_bytes(self, T: int) -> int:
        element, sums = element_bytes(self), self.config.inner * self.config.state_size
        return self.convolution.state_elements() * element + sums * max(4, element)

    def residual_writers(self) -> list[nn.Linear]:
        return [self.out]
