"""Gated DeltaNet (Yang, Kautz & Hatamizadeh 2024, arXiv 2412.06464, section 3.4): a memory that replaces what it holds.

Legend: B batch rows, T positions, D width, H key heads, J value heads, K key size, V value size, L = taps - 1 positions
of the convolution, C its channels.

    q, k, v = silu(convolution(W_qkv x)),   q and k of length 1,   beta = b sigmoid(W_b x),   z = W_z x
    S' = exp(g_t) S_{t-1},  S_t = S' + beta_t k_t (v_t - S'^T k_t)^T,  o_t = S_t^T q_t / sqrt(K)
    out = W_out (norm(o) silu(z))

with the log decay g_t = -exp(A_log) softplus(W_a x + dt_bias), or 0: then it is DeltaNet (Schlag et al. 2021, arXiv
2102.11174; Yang et al. 2024, arXiv 2406.06484). Value head j uses keys and queries of head floor(j H / J). With b = 2
a transition may have negative eigenvalues (Grazzi et al. 2024, arXiv 2411.12537).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from everlong.core.accounting import element_bytes, linear_flops
from everlong.core.config import Config, check, check_divides
from everlong.core.exact import softplus
from everlong.core.part import Part
from everlong.core.span import Span
from everlong.core.state import State
from everlong.kernels.delta_rule import delta_rule
from everlong.sequence.mamba_pieces import CausalConvolution, initial_dt_bias
from everlong.sequence.mamba_rows import Rows

LENGTH_EPS = 1e-6  # added to the squared length of queries and keys


class Decay(nn.Module):
    """Log decays that depend on the position: g = -exp(A_log) softplus(W x + dt_bias), as Mamba-2's."""

    class Config(Config):
        """No fields: its sizes are those of the layer."""

    def __init__(self, _config: Decay.Config, width: int, heads: int) -> None:
        super().__init__()
        self.input = nn.Linear(width, heads, bias=False)
        self.dt_bias = nn.Parameter(initial_dt_bias(heads))
        self.A_log = nn.Parameter(torch.empty(heads).uniform_(0.01, 16).log())

    def forward(self, x_BTD: Float[Tensor, "b t d"]) -> Float[Tensor, "b t j"]:
        dt_BTJ = self.input(x_BTD)
        exact = torch.promote_types(dt_BTJ.dtype, torch.float32)
        return -self.A_log.to(exact).exp() * softplus(dt_BTJ.to(exact) + self.dt_bias.to(exact))


class DeltaState(State):
    """The last inputs of the convolution, and the memory of every head, in float32 or better."""

    past_BLC: Float[Tensor, "b l c"]
    s_BJKV: Float[Tensor, "b j k v"]


class DeltaNet(Part):
    """The delta rule, gated or not. State: the inputs of the convolution and one matrix a value head; constant."""

    class Config(Part.Config):
        heads: int
        """H, heads of queries and keys."""
        value_heads: int
        """J, a multiple of `heads`."""
        key_size: int
        """K."""
        value_size: int
        """V."""
        decay: Decay.Config | None
        """How the memory fades; `None`: not at all."""
        taps: int = 4
        """Positions that the convolution sees, the current one among them."""
        beta_scale: float = 1.0
        """b: how much of what a key holds can be replaced; at most 2."""
        eps: float = 1e-5
        """What the norm of a head's output adds to the mean square."""

    def __init__(self, config: DeltaNet.Config) -> None:
        super().__init__()
        for field in ("width", "heads", "key_size", "value_size"):
            check(getattr(config, field) >= 1, f"delta_net.{field}", getattr(config, field), "must be at least 1")
        check_divides(config.heads, config.value_heads, "delta_net.heads", "delta_net.value_heads")
        check(
            0 < config.beta_scale <= 2, "delta_net.beta_scale", config.beta_scale, "must be in (0, 2], or it diverges"
        )
        self.config, self.inner = config, config.value_heads * config.value_size
        self.keys = config.heads * config.key_size
        channels = 2 * self.keys + self.inner
        self.input = nn.Linear(config.width, channels + self.inner + config.value_heads, bias=False)
        self.convolution = CausalConvolution(channels, config.taps, bias=False)
        self.decay = Decay(config.decay, config.width, config.value_heads) if config.decay else None
        self.norm = nn.Parameter(torch.ones(config.value_size))
        self.out = nn.Linear(self.inner, config.width, bias=False)

    def forward(
        self, x_BTD: Float[Tensor, "b t d"], span: Span, state: DeltaState | None = None
    ) -> tuple[Float[Tensor, "b t d"], DeltaState]:
        rows = Rows.of(span)
        x_BTD = rows.compact(x_BTD)
        u_BTC, z_BTE, b_BTJ = self.input(x_BTD).split(
            [2 * self.keys + self.inner, self.inner, self.config.value_heads], dim=-1
        )
        g_BTJ = torch.zeros_like(b_BTJ) if self.decay is None else self.decay(x_BTD)
        with torch.autocast(x_BTD.device.type, enabled=False):  # the sums outgrow bfloat16
            u_BTC, past_BLC = self.convolution(u_BTC, rows, None if state is None else state.past_BLC)
            beta_BTJ = self.config.beta_scale * torch.sigmoid(b_BTJ.to(u_BTC.dtype))
            s_BJKV = None if state is None else state.s_BJKV
            o_BTJV, s_BJKV = self.mix(u_BTC, g_BTJ.to(u_BTC.dtype), beta_BTJ, rows, s_BJKV)
            o_BTE = self.gated(o_BTJV, z_BTE.to(u_BTC.dtype))
        return rows.restore(self.out(o_BTE.to(z_BTE.dtype))), DeltaState(past_BLC, s_BJKV)

    def mix(
        self, u_BTC: Tensor, g_BTJ: Tensor, beta_BTJ: Tensor, rows: Rows, s_BJKV: Tensor | None
    ) -> tuple[Float[Tensor, "b t j v"], Float[Tensor, "b j k v"]]:
        """The recurrence over convolved channels."""
        q_BTM, k_BTM, v_BTE = u_BTC.split([self.keys, self.keys, self.inner], dim=-1)
        q_BTJK, k_BTJK = (self._unit(m) for m in (q_BTM, k_BTM))
        v_BTJV = v_BTE.unflatten(-1, (self.config.value_heads, -1))
        masks = {"state": s_BJKV, "documents": rows.document_BT}
        q_BTJK = q_BTJK * self.config.key_size**-0.5
        return delta_rule(q_BTJK, k_BTJK, v_BTJV, rows.mask(g_BTJ), rows.mask(beta_BTJ), **masks)

    def _unit(self, m_BTM: Tensor) -> Float[Tensor, "b t j k"]:
        """Vectors of length 1, one a value head."""
        m_BTHK = m_BTM.unflatten(-1, (self.config.heads, -1))
        m_BTHK = m_BTHK * torch.rsqrt(m_BTHK.square().sum(-1, keepdim=True) + LENGTH_EPS)
        return m_BTHK.repeat_interleave(self.config.value_heads // self.config.heads, dim=2)

    def gated(self, o_BTJV: Float[Tensor, "b t j v"], z_BTE: Float[Tensor, "b t e"]) -> Float[Tensor, "b t e"]:
        """norm(o) silu(z): the norm of each head comes before the gate."""
        o_BTJV = F.rms_norm(o_BTJV, o_BTJV.shape[-1:], self.norm.to(o_BTJV.dtype), self.config.eps)
        return o_BTJV.flatten(-2) * F.silu(z_BTE)

    def flops(self, T: int) -> int:
        per_head = 6 * self.config.key_size * self.config.value_size  # what the key holds, the addition, the query
        layers = [self.input, self.out] + ([] if self.decay is None else [self.decay.input])
        return linear_flops(*layers, T=T) + T * self.config.value_heads * per_head

    def state_bytes(self, T: int) -> int:
        element, memory = element_bytes(self), self.inner * self.config.key_size
        return self.convolution.state_elements() * element + memory * max(4, element)

    def residual_writers(self) -> list[nn.Linear]:
        return [self.out]
