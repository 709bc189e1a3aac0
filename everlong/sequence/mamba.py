"""Mamba-2 (Dao & Gu 2024, arXiv 2405.21060, sections 7 and 8): a selective state-space layer of heads.

Legend: B batch rows, T positions, D width, H heads, P head size, E = H P inner width, G groups, N state size,
J = E / G, K taps, L = K - 1, C = E + 2 G N channels of the convolution.

    z, u, dt = W_in x,                              u (C channels) = x, B, C together
    x, B, C  = silu(convolution(u)),                depthwise and causal, K taps
    dt       = clamp(softplus(dt + dt_bias)),  A = -exp(A_log)
    S_t      = exp(A dt_t) S_{t-1} + B_t (dt_t x_t)^T,  y_t = C_t^T S_t + D x_t
    out      = W_out norm(y silu(z))
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from everlong.core.accounting import element_bytes, linear_flops
from everlong.core.config import check, check_divides
from everlong.core.part import Part
from everlong.core.span import Span
from everlong.core.state import State
from everlong.kernels.ssd import ssd
from everlong.sequence.mamba_pieces import CausalConvolution, GatedNorm, check_limits, initial_dt_bias, step_sizes
from everlong.sequence.mamba_rows import Rows


class Mamba2State(State):
    """The last inputs of the convolution, and the sums of every head, in float32 or better."""

    past_BLC: Float[Tensor, "b l c"]
    s_BGNJ: Float[Tensor, "b g n j"]


class Mamba2(Part):
    """Mamba-2. State: K - 1 inputs of the convolution and one matrix a head; constant."""

    class Config(Part.Config):
        heads: int
        """H."""
        head_size: int
        """P; the inner width is H P, twice the width in the paper."""
        state_size: int = 128
        """N, rows of a head's matrix."""
        groups: int = 1
        """G, groups of heads that share B and C; divides `heads`."""
        taps: int = 4
        """K, positions that the convolution sees, the current one among them."""
        dt_limits: tuple[float, float] = (0.0, math.inf)
        """Bounds of the step sizes."""
        eps: float = 1e-5
        """What the gated norm adds to the mean square."""

    def __init__(self, config: Mamba2.Config) -> None:
        super().__init__()
        for field in ("width", "heads", "head_size", "state_size"):
            check(getattr(config, field) >= 1, f"mamba2.{field}", getattr(config, field), "must be at least 1")
        check_divides(config.groups, config.heads, "mamba2.groups", "mamba2.heads")
        check_limits(config.dt_limits, "mamba2.dt_limits")
        self.config, self.inner, shared = config, config.heads * config.head_size, config.groups * config.state_size
        self.parts = [self.inner, shared, shared]
        self.input = nn.Linear(config.width, 2 * self.inner + 2 * shared + config.heads, bias=False)
        self.convolution = CausalConvolution(sum(self.parts), config.taps, bias=True)
        self.dt_bias = nn.Parameter(initial_dt_bias(config.heads))
        self.A_log = nn.Parameter(torch.empty(config.heads).uniform_(1, 16).log())
        self.D = nn.Parameter(torch.ones(config.heads))
        self.norm = GatedNorm(self.inner, config.groups, config.eps)
        self.out = nn.Linear(self.inner, config.width, bias=False)

    def forward(
        self, x_BTD: Float[Tensor, "b t d"], span: Span, state: Mamba2State | None = None
    ) -> tuple[Float[Tensor, "b t d"], Mamba2State]:
        rows = Rows.of(span)
        z_BTE, u_BTC, dt_BTH = self.input(rows.compact(x_BTD)).split(
            [self.inner, sum(self.parts), self.config.heads], -1
        )
        with torch.autocast(x_BTD.device.type, enabled=False):  # the sums outgrow bfloat16
            u_BTC, past_BLC = self.convolution(u_BTC, rows, None if state is None else state.past_BLC)
            y_BTE, s_BGNJ = self.mix(u_BTC, dt_BTH, rows, None if state is None else state.s_BGNJ)
            y_BTE = self.norm(y_BTE, z_BTE)
        return rows.restore(self.out(y_BTE.to(z_BTE.dtype))), Mamba2State(past_BLC, s_BGNJ)

    def mix(
        self, u_BTC: Tensor, dt_BTH: Tensor, rows: Rows, s_BGNJ: Tensor | None
    ) -> tuple[Float[Tensor, "b t e"], Float[Tensor, "b g n j"]]:
        """The recurrence over convolved channels, and D times what enters it."""
        x_BTE, B_BTM, C_BTM = u_BTC.split(self.parts, dim=-1)
        x_BTHP = x_BTE.unflatten(-1, (self.config.heads, -1))
        B_BTGN, C_BTGN = (m.unflatten(-1, (self.config.groups, -1)) for m in (B_BTM, C_BTM))
        dt_BTH = step_sizes(dt_BTH, self.dt_bias, self.config.dt_limits, rows)
        A_H = -self.A_log.to(dt_BTH.dtype).exp()
        y_BTHP, s_BGNJ = ssd(x_BTHP, dt_BTH, A_H, B_BTGN, C_BTGN, state=s_BGNJ, documents=rows.document_BT)
        return torch.addcmul(y_BTHP, x_BTHP, self.D.to(y_BTHP.dtype)[:, None]).flatten(-2), s_BGNJ

    def flops(self, T: int) -> int:
        per_head = 4 * self.config.state_size * self.config.head_size  # the outer product, and the query's with the sum
        return linear_flops(self.input, self.out, T=T) + T * self.config.heads * per_head

    def state_bytes(self, T: int) -> int:
        element = element_bytes(self)
        return self.convolution.state_elements() * element + self.inner * self.config.state_size * max(4, element)

    def residual_writers(self) -> list[nn.Linear]:
        return [self.out]
