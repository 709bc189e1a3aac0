"""Linear attention (Katharopoulos et al. 2020, arXiv 2006.16236): attention as a recurrent network.

Legend: B batch rows, T positions, C positions of a chunk, D width, H heads, E head size (of keys), F (of values).

With phi(x) = elu(x) + 1 (eq. 7), per head and position (eqs. 18-20):

    S_t = S_{t-1} + phi(k_t) v_t^T,   z_t = z_{t-1} + phi(k_t),   o_t = phi(q_t)^T S_t / (phi(q_t)^T z_t).

Chunked form: within a chunk the sum over s <= t is a masked matrix product, and (S, z) carries the past. It is the
same sum, so any cut gives the same numbers. A new document starts from S = 0, z = 0.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from everlong.core.accounting import element_bytes, linear_flops
from everlong.core.config import check, check_divides
from everlong.core.part import Part
from everlong.core.span import Span
from everlong.core.state import State

CHUNK = 128  # positions of one masked product; the work of a chunk is C + E a position and head


class LinearAttentionState(State):
    """The sums over the document's past, in float32 or better."""

    s_BHEF: Float[Tensor, "b h e f"]
    z_BHE: Float[Tensor, "b h e"]


class LinearAttention(Part):
    """Linear attention with the feature map ELU + 1. State: one matrix and one vector a head, constant."""

    class Config(Part.Config):
        heads: int
        """H; divides the width."""

    def __init__(self, config: LinearAttention.Config) -> None:
        super().__init__()
        check(config.width >= 1, "linear_attention.width", config.width, "must be at least 1")
        check_divides(config.heads, config.width, "linear_attention.heads", "linear_attention.width")
        self.heads, self.head = config.heads, config.width // config.heads
        self.q, self.k, self.v, self.out = (nn.Linear(config.width, config.width, bias=False) for _ in range(4))

    def forward(
        self, x_BTD: Float[Tensor, "b t d"], span: Span, state: LinearAttentionState | None = None
    ) -> tuple[Float[Tensor, "b t d"], LinearAttentionState]:
        q, k, v = (rearrange(f(x_BTD), "b t (h e) -> b h t e", h=self.heads) for f in (self.q, self.k, self.v))
        with torch.autocast(x_BTD.device.type, enabled=False):  # the sums outgrow bfloat16
            exact = torch.promote_types(q.dtype, torch.float32)
            q, k, v = F.elu(q.to(exact)) + 1, F.elu(k.to(exact)) + 1, v.to(exact)
            o_BHTE, state = chunked(q, k, v, span, state or self.empty(q))
        return self.out(rearrange(o_BHTE, "b h t e -> b t (h e)").to(x_BTD.dtype)), state

    def empty(self, q_BHTE: Tensor) -> LinearAttentionState:
        """The state before a document's first position."""
        B, H, _, E = q_BHTE.shape
        return LinearAttentionState(q_BHTE.new_zeros(B, H, E, E), q_BHTE.new_zeros(B, H, E))

    def flops(self, T: int) -> int:
        per_head = 4 * self.head * self.head  # the outer product, and the query's product with the sum
        return linear_flops(self.q, self.k, self.v, self.out, T=T) + T * self.heads * per_head

    def state_bytes(self, T: int) -> int:
        return self.heads * (self.head + 1) * self.head * max(4, element_bytes(self))

    def residual_writers(self) -> list[nn.Linear]:
        return [self.out]


def chunked(
    q_BHTE: Float[Tensor, "b h t e"],
    k_BHTE: Float[Tensor, "b h t e"],
    v_BHTF: Float[Tensor, "b h t f"],
    span: Span,
    state: LinearAttentionState,
) -> tuple[Float[Tensor, "b h t f"], LinearAttentionState]:
    """The normalised sums for features q, k >= 0, in chunks of `CHUNK` positions."""
    if span.real_BT is not None:
        k_BHTE = k_BHTE * span.real_BT[:, None, :, None]
    T, outputs = q_BHTE.shape[2], []
    advance = _step if T == 1 else _chunk
    for start in range(0, T, CHUNK):
        part = slice(start, min(start + CHUNK, T))
        label_BC = None if span.start_BT is None else span.start_BT[:, part].cumsum(1)
        o_BHCF, state = advance(q_BHTE[:, :, part], k_BHTE[:, :, part], v_BHTF[:, :, part], label_BC, state)
        outputs.append(o_BHCF)
    return torch.cat(outputs, dim=2), state


def _chunk(
    q_BHCE: Tensor, k_BHCE: Tensor, v_BHCF: Tensor, label_BC: Tensor | None, state: LinearAttentionState
) -> tuple[Tensor, LinearAttentionState]:
    """One chunk; `label_BC` counts the documents begun in it (0: the state's own), `None` if none begins."""
    a_BHCC = (q_BHCE @ k_BHCE.transpose(-1, -2)).tril()
    q_past, k_last, s_BHEF, z_BHE = q_BHCE, k_BHCE, state.s_BHEF, state.z_BHE
    if label_BC is not None:
        a_BHCC = a_BHCC * (label_BC[:, None, :, None] == label_BC[:, None, None, :])
        q_past = q_BHCE * (label_BC == 0)[:, None, :, None]
        k_last = k_BHCE * (label_BC == label_BC[:, -1:])[:, None, :, None]
        carries_B = label_BC[:, -1] == 0
        s_BHEF, z_BHE = s_BHEF * carries_B[:, None, None, None], z_BHE * carries_B[:, None, None]
    total_BHCF = a_BHCC @ v_BHCF + q_past @ state.s_BHEF
    weight_BHC1 = a_BHCC.sum(-1, keepdim=True) + (q_past * state.z_BHE[:, :, None]).sum(-1, keepdim=True)
    new = LinearAttentionState(s_BHEF + k_last.transpose(-1, -2) @ v_BHCF, z_BHE + k_last.sum(2))
    return _normalised(total_BHCF, weight_BHC1), new


def _step(
    q_BH1E: Tensor, k_BH1E: Tensor, v_BH1F: Tensor, label_B1: Tensor | None, state: LinearAttentionState
) -> tuple[Tensor, LinearAttentionState]:
    """One position, by the recurrence itself; arguments as those of `_chunk`."""
    s_BHEF, z_BHE = state.s_BHEF, state.z_BHE
    if label_B1 is not None:
        carries_B11 = (label_B1 == 0)[..., None]
        s_BHEF, z_BHE = s_BHEF * carries_B11[..., None], z_BHE * carries_B11
    new = LinearAttentionState(s_BHEF + k_BH1E.transpose(-1, -2) @ v_BH1F, z_BHE + k_BH1E[:, :, 0])
    weight_BH11 = (q_BH1E * new.z_BHE[:, :, None]).sum(-1, keepdim=True)
    return _normalised(q_BH1E @ new.s_BHEF, weight_BH11), new


def _normalised(total_BHCF: Tensor, weight_BHC1: Tensor) -> Tensor:
    """Their quotient; 0 where nothing real came before."""
    return total_BHCF / weight_BHC1.masked_fill(weight_BHC1 == 0, 1)
