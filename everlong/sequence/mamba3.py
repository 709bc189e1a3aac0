"""Mamba-3 (arXiv 2603.15569), with one input and one output a head: the trapezoidal rule, rates that depend on the
data, and keys and queries that are turned. It has no convolution.

Legend: B batch rows, T positions, D width, H heads, P head size, E = H P inner width, G groups, N state size, I turned
pairs of a key.

    z, x, B, C, dt, A, l, angle = W_in x
    dt   = softplus(dt + dt_bias),   a = dt min(-f(A), -1e-4),   f(r) = 1 + r for r >= 0, else 1 / (1 - r)
    l    = sigmoid(l),   w = l dt,   u = (1 - l) dt exp(a)
    k, q = norm(B) + b_B, norm(C) + b_C,   turned by   phi_t = (phi_{t-1} + pi tanh(angle_t) dt_t) mod 2 pi
    S_t  = exp(a_t) S_{t-1} + w_t k_t x_t^T + u_t k_{t-1} x_{t-1}^T,   y_t = S_t^T q_t + D x_t
    out  = W_out (y silu(z))

B and C are shared by the heads of a group, angles by all; dt makes phases differ. The order of the rows of W_in is that
of the authors' code, and so are the pairs that are turned: adjacent ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from everlong.core.accounting import Hint, element_bytes, linear_flops
from everlong.core.config import check, check_divides
from everlong.core.errors import ContextError
from everlong.core.part import Part
from everlong.core.span import Span
from everlong.core.state import State
from everlong.kernels.trapezoidal_ssd import trapezoidal_ssd
from everlong.sequence.mamba_phases import phases, turn
from everlong.sequence.mamba_pieces import initial_dt_bias, step_sizes
from everlong.sequence.mamba_rows import Rows

SLOWEST = 1e-4  # the least rate of decay
EPS = 1e-5  # what the norms of B and C add to the mean square


class Mamba3State(State):
    """Phases, sums, and the last key and value of every head, in float32 or better."""

    phase_BHI: Float[Tensor, "b h i"]
    s_BHNP: Float[Tensor, "b h n p"]
    k_BHN: Float[Tensor, "b h n"]
    v_BHP: Float[Tensor, "b h p"]


class Mamba3(Part):
    """Mamba-3. State: one matrix a head, its phases, and its last key and value; constant."""

    hints = {"B_bias": Hint(decay=False, matrix=False), "C_bias": Hint(decay=False, matrix=False)}  # noqa: RUF012

    class Config(Part.Config):
        heads: int
        """H."""
        head_size: int
        """P; the inner width is H P, twice the width in the paper."""
        state_size: int = 128
        """N, rows of a head's matrix."""
        groups: int = 1
        """G, groups of heads that share B and C; divides `heads`."""
        turned: float = 0.5
        """How much of a key is turned; of an odd number of coordinates, one less."""

    def __init__(self, config: Mamba3.Config) -> None:
        super().__init__()
        for field in ("width", "heads", "head_size", "state_size"):
            check(getattr(config, field) >= 1, f"mamba3.{field}", getattr(config, field), "must be at least 1")
        check_divides(config.groups, config.heads, "mamba3.groups", "mamba3.heads")
        H, N = config.heads, config.state_size
        remedy = f"must be above 0 and at most 1, and reach one pair of the {N} coordinates of a key"
        check(config.turned <= 1 and config.turned * N >= 2, "mamba3.turned", config.turned, remedy)
        self.config, self.inner, self.pairs = config, H * config.head_size, int(N * config.turned) // 2
        shared = config.groups * N
        self.parts = [self.inner, self.inner, shared, shared, H, H, H, self.pairs]
        self.input = nn.Linear(config.width, sum(self.parts), bias=False)
        self.dt_bias = nn.Parameter(initial_dt_bias(H))
        self.B_norm, self.C_norm = (nn.Parameter(torch.ones(N)) for _ in range(2))
        self.B_bias, self.C_bias = (nn.Parameter(torch.ones(H, N)) for _ in range(2))
        self.D = nn.Parameter(torch.ones(H))
        self.out = nn.Linear(self.inner, config.width, bias=False)

    def forward(
        self, x_BTD: Float[Tensor, "b t d"], span: Span, state: Mamba3State | None = None
    ) -> tuple[Float[Tensor, "b t d"], Mamba3State]:
        rows = Rows.of(span)
        u_BTM = self.input(rows.compact(x_BTD))
        exact = torch.promote_types(u_BTM.dtype, torch.float32)
        with torch.autocast(x_BTD.device.type, enabled=False):  # the sums outgrow bfloat16
            y_BTE, state = self.mix(u_BTM.to(exact).split(self.parts, dim=-1), rows, state)
        return rows.restore(self.out(y_BTE.to(u_BTM.dtype))), state

    def mix(
        self, parts: Sequence[Tensor], rows: Rows, state: Mamba3State | None
    ) -> tuple[Float[Tensor, "b t e"], Mamba3State]:
        """All between the two projections."""
        z_BTE, x_BTE, B_BTM, C_BTM, dt_BTH, A_BTH, l_BTH, angle_BTI = parts
        dt_BTH = step_sizes(dt_BTH, self.dt_bias, (0.0, math.inf), rows)
        a_BTH, share_BTH = dt_BTH * rates(A_BTH), torch.sigmoid(l_BTH)
        phase_BTHI = self.phases(angle_BTI, dt_BTH, rows, state)
        k_BTHN = turn(self.shifted(B_BTM, self.B_norm, self.B_bias), phase_BTHI)
        q_BTHN = turn(self.shifted(C_BTM, self.C_norm, self.C_bias), phase_BTHI)
        v_BTHP = x_BTE.unflatten(-1, (self.config.heads, -1))
        w_BTH, u_BTH = share_BTH * dt_BTH, (1 - share_BTH) * dt_BTH * a_BTH.exp()
        y_BTHP, s_BHNP, (k_BHN, v_BHP) = trapezoidal_ssd(
            v_BTHP,
            w_BTH,
            u_BTH,
            a_BTH,
            k_BTHN,
            q_BTHN,
            before=None if state is None else (state.k_BHN, state.v_BHP),
            state=None if state is None else state.s_BHNP,
            documents=rows.document_BT,
            count_B=rows.count_B,
        )
        y_BTHP = torch.addcmul(y_BTHP, v_BTHP, self.D.to(y_BTHP.dtype)[:, None])
        return y_BTHP.flatten(-2) * F.silu(z_BTE), Mamba3State(phase_BTHI[:, -1].clone(), s_BHNP, k_BHN, v_BHP)

    def phases(
        self, angle_BTI: Tensor, dt_BTH: Tensor, rows: Rows, state: Mamba3State | None
    ) -> Float[Tensor, "b t h i"]:
        """phi; where nothing real stands, that of the last real position, since dt is 0."""
        shape = len(dt_BTH), self.config.heads, self.pairs
        before_BHI = dt_BTH.new_zeros(shape) if state is None else state.phase_BHI
        if before_BHI.shape != shape:
            remedy = f"must be {shape}: pass what this very part returned"
            raise ContextError("state, phases", tuple(before_BHI.shape), remedy)
        step_BTHI = math.pi * torch.tanh(angle_BTI)[:, :, None] * dt_BTH[..., None]
        return phases(step_BTHI, before_BHI, rows.document_BT)

    def shifted(self, m_BTM: Tensor, norm_N: Tensor, bias_HN: Tensor) -> Float[Tensor, "b t h n"]:
        """Keys or queries before they are turned: normalised, one a head, with the head's bias."""
        m_BTGN = m_BTM.unflatten(-1, (self.config.groups, -1))
        m_BTGN = F.rms_norm(m_BTGN, norm_N.shape, norm_N.to(m_BTM.dtype), EPS)
        return m_BTGN.repeat_interleave(self.config.heads // self.config.groups, dim=2) + bias_HN.to(m_BTM.dtype)

    def flops(self, T: int) -> int:
        per_head = 6 * self.config.state_size * self.config.head_size  # two outer products, and the query with the sum
        return linear_flops(self.input, self.out, T=T) + T * self.config.heads * per_head

    def state_bytes(self, T: int) -> int:
        N, P = self.config.state_size, self.config.head_size
        return self.config.heads * (N * P + N + P + self.pairs) * max(4, element_bytes(self))

    def residual_writers(self) -> list[nn.Linear]:
        return [self.out]


def rates(A_BTH: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """-f(A), with f of heavy tails: it grows as a line, and falls as a reciprocal."""
    grown, fallen = 1 + A_BTH.clamp(min=0), 1 / (1 - A_BTH.clamp(max=0))
    return (-torch.where(A_BTH >= 0, grown, fallen)).clamp(max=-SLOWEST)
