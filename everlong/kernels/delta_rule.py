"""The gated delta rule (Yang, Kautz & Hatamizadeh 2024, arXiv 2412.06464, eq. 10), in chunks, with a carried state.

Legend: B batch rows, T positions, H heads, K key size, V value size; in a chunk: c chunks of Q positions q and s.

    S' = exp(g_t) S_{t-1},   S_t = S' + beta_t k_t (v_t - S'^T k_t)^T,   o_t = S_t^T q_t

What a chunk's positions add depends on what earlier ones of it added. With D_ts the decay from s to t, the additions v~
solve a triangular system (the WY form of section 3.3):

    (I + A) v~ = beta (v - D_t0 k_t^T S),   A_ts = beta_t (k_t . k_s) D_ts for s < t,
    o_t = D_t0 S^T q_t + sum_{s <= t} (q_t . k_s) D_ts v~_s,   S_next = D_Q0 S + sum_s D_Qs k_s v~_s^T.

All exponents are at most 0, each summed on its own, so no decay is too fast. Documents are masked by their number.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int64
from torch import Tensor

from everlong.core.errors import ContextError

CHUNK = 64  # positions of one triangular system


def delta_rule(
    q_BTHK: Float[Tensor, "b t h k"],
    k_BTHK: Float[Tensor, "b t h k"],
    v_BTHV: Float[Tensor, "b t h v"],
    g_BTH: Float[Tensor, "b t h"],
    beta_BTH: Float[Tensor, "b t h"],
    *,
    state: Float[Tensor, "*given"] | None = None,
    documents: Int64[Tensor, "b t"] | None = None,
) -> tuple[Float[Tensor, "b t h v"], Float[Tensor, "b h k v"]]:
    """Continues the recurrence by T positions, in float32 or better.

    Args:
        k_BTHK: keys; of length at most 1, or what is stored grows.
        g_BTH: log decays, at most 0; 0 where a position is not real.
        beta_BTH: how much of what a key holds is replaced; 0 where a position is not real.
        state: S before the first position (B, H, K, V); `None`: zeros.
        documents: 0 for what goes on with the state, one more at every position that begins a document.

    Returns:
        o at every position, and S after the last, both in at least float32.

    Raises:
        ContextError: no positions, or a state of another shape.
    """
    B, T, H, K = q_BTHK.shape
    exact = torch.promote_types(q_BTHK.dtype, torch.float32)
    q, k, v, g, beta = (z.to(exact) for z in (q_BTHK, k_BTHK, v_BTHV, g_BTH, beta_BTH))
    shape = B, H, K, v.shape[-1]
    if T == 0:
        raise ContextError("q_BTHK", "0 positions", "must hold at least one position")
    if state is not None and state.shape != shape:
        raise ContextError("state", tuple(state.shape), f"must be {shape}: pass what this very part returned")
    s_BHKV = v.new_zeros(shape) if state is None else state.to(exact)
    if T == 1:
        return _step(q, k, v, g, beta, s_BHKV, documents)
    return _chunks(q, k, v, g, beta, s_BHKV, documents)


def _step(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor, s_BHKV: Tensor, doc_B1: Tensor | None
) -> tuple[Tensor, Tensor]:
    """One position, by the recurrence itself."""
    q, k, v = (z.transpose(1, 2) for z in (q, k, v))  # b h 1 e
    decay_BH = g[:, 0].exp() if doc_B1 is None else g[:, 0].exp() * (doc_B1 == 0)
    s_BHKV = s_BHKV * decay_BH[..., None, None]
    added = beta.transpose(1, 2)[..., None] * (v - k @ s_BHKV)
    s_BHKV = s_BHKV + k.transpose(-1, -2) @ added
    return (q @ s_BHKV).transpose(1, 2), s_BHKV


class _Decay(NamedTuple):
    """D in pieces; 0 across documents."""

    pair: Tensor  # b c h q s, D_ts
    into: Tensor  # b c h q 1, D_t0
    whole: Tensor  # b c h 1 1, D_Q0


def _chunks(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor, s_BHKV: Tensor, documents: Tensor | None
) -> tuple[Tensor, Tensor]:
    T = q.shape[1]
    q, k, v = (rearrange(_fill(z), "b (c q) h e -> b c h q e", q=min(CHUNK, T)) for z in (q, k, v))
    g, beta = (rearrange(_fill(z), "b (c q) h -> b c h q", q=min(CHUNK, T)) for z in (g, beta))
    decay, beta = _decay(g, documents), beta[..., None]
    keys = k @ k.transpose(-1, -2) * decay.pair * beta
    system = keys.tril(-1) + torch.eye(keys.shape[-1], dtype=keys.dtype, device=keys.device)
    right = torch.cat([beta * v, beta * decay.into * k], dim=-1)
    u, w = torch.linalg.solve_triangular(system, right, upper=False, unitriangular=True).split(
        [v.shape[-1], k.shape[-1]], dim=-1
    )
    kept = (k * decay.pair[..., -1, :, None]).transpose(-1, -2)  # b c h k s
    states, added = [s_BHKV], []
    for c in range(u.shape[1]):
        added.append(u[:, c] - w[:, c] @ states[-1])
        states.append(decay.whole[:, c] * states[-1] + kept[:, c] @ added[-1])
    carried = (q * decay.into) @ torch.stack(states[:-1], dim=1)
    out = carried + (q @ k.transpose(-1, -2) * decay.pair) @ torch.stack(added, dim=1)
    return rearrange(out, "b c h q e -> b (c q) h e")[:, :T], states[-1]


def _fill(x: Tensor) -> Tensor:
    """Zeros up to a whole number of chunks: they neither decay nor add. A call within one chunk stays as it is."""
    T = x.shape[1]
    missing = 0 if T <= CHUNK else -T % CHUNK
    return F.pad(x, (0, 0) * (x.ndim - 2) + (0, missing)) if missing else x


def _decay(g: Tensor, documents: Tensor | None) -> _Decay:
    """Decays from position to position, b c h q s, each a sum of its own, from log decays b c h q."""
    Q = g.shape[-1]
    earlier = torch.ones(Q, Q, dtype=torch.bool, device=g.device).tril()
    steps = g[..., None].expand(*g.shape, Q).masked_fill(~earlier.tril(-1), 0)
    pair = steps.cumsum(-2).masked_fill(~earlier, -torch.inf).exp()
    into = g.cumsum(-1).exp()[..., None]
    if documents is None:
        return _Decay(pair, into, into[..., -1:, :])
    own = rearrange(_extend(documents, g.shape[1] * Q), "b (c q) -> b c 1 q", q=Q)
    last = own[..., -1]
    before = torch.cat([torch.zeros_like(last[:, :1]), last[:, :-1]], dim=1)[..., None]
    into = into * (own == before)[..., None]
    return _Decay(pair * (own[..., :, None] == own[..., None, :]), into, into[..., -1:, :])


def _extend(documents: Tensor, places: int) -> Tensor:
    """The last document goes on where zeros fill the last chunk."""
    return torch.cat([documents, documents[:, -1:].expand(-1, places - documents.shape[1])], dim=1)
