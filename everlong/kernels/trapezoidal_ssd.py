"""The recurrence of Mamba-3 (arXiv 2603.15569): each step adds its own pair of key and value, and the one before it.

Legend: B batch rows, T positions, H heads, P size of a value, N size of a key.

    S_t = exp(a_t) S_{t-1} + w_t k_t v_t^T + u_t k_{t-1} v_{t-1}^T,   y_t = S_t^T q_t

Both kinds of pairs decay alike, so S is the sum of two states of `ssd`: that of the pairs, and that of the pairs before
them. One would do, with the weights w_s + u_{s+1} / exp(a_{s+1}) and the excess of each position taken off its output;
but then an output would change in its last digits with what follows it, and the pairs of Mamba-3 have no future.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from everlong.core.errors import ContextError
from everlong.kernels.ssd import decaying_sum

Pair = tuple[Float[Tensor, "b h n"], Float[Tensor, "b h p"]]
"""The key and the value of one position."""


def trapezoidal_ssd(
    v_BTHP: Float[Tensor, "b t h p"],
    w_BTH: Float[Tensor, "b t h"],
    u_BTH: Float[Tensor, "b t h"],
    a_BTH: Float[Tensor, "b t h"],
    k_BTHN: Float[Tensor, "b t h n"],
    q_BTHN: Float[Tensor, "b t h n"],
    *,
    before: tuple[Float[Tensor, "*key"], Float[Tensor, "*value"]] | None = None,
    state: Float[Tensor, "*given"] | None = None,
    documents: Int64[Tensor, "b t"] | None = None,
    count_B: Int64[Tensor, " b"] | None = None,
) -> tuple[Float[Tensor, "b t h p"], Float[Tensor, "b h n p"], Pair]:
    """Continues the recurrence by T positions, in float32 or better.

    Args:
        w_BTH: weights of a position's own pair; 0 where it is not real, as are `u_BTH` and `a_BTH`.
        u_BTH: weights of the pair before it; that of another document is not heard.
        a_BTH: log decays, at most 0.
        before: the pair before the first position; `None`: zeros.
        state: S before the first position (B, H, N, P); `None`: zeros.
        documents: 0 for what goes on with the state, one more at every position that begins a document.
        count_B: how many positions of each row are real; they stand first. `None`: all.

    Returns:
        y at every position, S after the last, and the last real pair.

    Raises:
        ContextError: no positions, or a state or pair of another shape.
    """
    exact = torch.promote_types(v_BTHP.dtype, torch.float32)
    v, w, u, a, k, q = (z.to(exact) for z in (v_BTHP, w_BTH, u_BTH, a_BTH, k_BTHN, q_BTHN))
    k_joined, v_joined = _joined("key", k, before and before[0]), _joined("value", v, before and before[1])
    if documents is not None:
        u = u * (documents.diff(dim=1, prepend=documents.new_zeros(len(documents), 1)) == 0)[..., None]
    if v.shape[1] == 1:
        y, s_BHNP = _step(v_joined, torch.stack([u, w], -1)[:, 0], a, k_joined, q, state, documents)
    else:
        y, s_BHNP = decaying_sum(v, w, a, k, q, state=state, documents=documents)
        earlier, added = decaying_sum(v_joined[:, :-1], u, a, k_joined[:, :-1], q, documents=documents)
        y, s_BHNP = y + earlier, s_BHNP + added
    return y, s_BHNP, (_last(k_joined, count_B), _last(v_joined, count_B))


def _joined(name: str, x_BTHN: Tensor, before_BHN: Tensor | None) -> Tensor:
    """All positions, and the one before the first."""
    B, _, H, N = x_BTHN.shape
    before_BHN = x_BTHN.new_zeros(B, H, N) if before_BHN is None else before_BHN.to(x_BTHN.dtype)
    if before_BHN.shape != (B, H, N):
        remedy = f"must be {(B, H, N)}: pass what this very part returned"
        raise ContextError(f"state, last {name}", tuple(before_BHN.shape), remedy)
    return torch.cat([before_BHN[:, None], x_BTHN], dim=1)


def _last(joined: Tensor, count_B: Tensor | None) -> Tensor:
    """The last real position of every row, or what stood before the first."""
    if count_B is None:
        return joined[:, -1].clone()
    return joined[torch.arange(len(joined), device=joined.device), count_B]


def _step(
    v_B2HP: Tensor,
    weight_BH2: Tensor,
    a_B1H: Tensor,
    k_B2HN: Tensor,
    q_B1HN: Tensor,
    s_BHNP: Tensor | None,
    documents_B1: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """One position, by the recurrence itself: the two pairs in one product."""
    k_BHN2, v_BH2P = k_B2HN.permute(0, 2, 3, 1), v_B2HP.transpose(1, 2)
    shape = *k_BHN2.shape[:3], v_BH2P.shape[-1]
    if s_BHNP is None:
        s_BHNP = k_BHN2.new_zeros(shape)
    if s_BHNP.shape != shape:
        raise ContextError("state", tuple(s_BHNP.shape), f"must be {shape}: pass what this very part returned")
    decay_BH = a_B1H[:, 0].exp() if documents_B1 is None else a_B1H[:, 0].exp() * (documents_B1 == 0)
    s_BHNP = s_BHNP.to(k_BHN2.dtype) * decay_BH[..., None, None] + k_BHN2 @ (v_BH2P * weight_BH2[..., None])
    return (q_B1HN.transpose(1, 2) @ s_BHNP).transpose(1, 2), s_BHNP
