"""Partial attention, merged exactly: the one primitive behind every attention pattern.

Legend: B batch rows, T queries a row, S keys a row, H query heads, G key/value heads (G divides H), D head size;
inside a piece: N sequences, L queries, M keys.

One softmax over the union of what the pieces of a pattern let a query see. Piece i returns its own normalised
output o_i and log-sum-exp l_i; with l = logaddexp_i(l_i),

    o = sum_i exp(l_i - l) * o_i.

Backward: with the *merged* (o, l), piece i's probabilities are P_i = exp(S_i - l), which sum to the whole softmax,
and the flash backward of each piece, dS_i = P_i * (dO V_i^T - rowsum(dO * o)), is its exact share of the gradient;
the shares add up. So every piece's backward is given the merged output and log-sum-exp, and no gradient through
the mixture weights is written anywhere (Liu et al. 2023, Ring Attention, arXiv 2310.01889, use the same identity
across devices).

`reference` is the definition in differentiable PyTorch. The fused form runs the same pieces through torch's own
flash kernel, without a copy; it is used on CPU when the private operator has the schema this file was written for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from everlong.core.errors import ConfigError
from everlong.kernels.pieces import Piece, Pieces, decode, encode

Backend = Literal["auto", "reference"]
_backend: Backend = "auto"


@contextmanager
def attention_backend(backend: Backend) -> Iterator[None]:
    """Chooses how attention is computed inside the block: `auto` (the fastest form there is) or `reference`."""
    global _backend
    before, _backend = _backend, backend
    try:
        yield
    finally:
        _backend = before


@dataclass(frozen=True, eq=False)
class Visibility:
    """Visibility that depends on the data (documents, ragged rows), as intervals of an order given to the keys.

    A query sees the keys with `low <= order <= high`, and marked keys already from `low_marked` on. It replaces the
    bands of the pieces, which then only bound the work.
    """

    low_BT: Int64[Tensor, "b t"]
    high_BT: Int64[Tensor, "b t"]
    order_BS: Int64[Tensor, "b s"]
    low_marked_BT: Int64[Tensor, "b t"] | None = None
    marked_BS: Bool[Tensor, "b s"] | None = None

    def tensors(self) -> list[Tensor]:
        """Its tensors, in the order of the fields: `Visibility(*v.tensors())` equals v."""
        return [
            x for x in (self.low_BT, self.high_BT, self.order_BS, self.low_marked_BT, self.marked_BS) if x is not None
        ]

    def of(self, piece: Piece) -> Bool[Tensor, "n 1 l m"]:
        """Visible pairs of a piece."""

        def queries(x_BT: Tensor) -> Tensor:
            return piece.query.of(x_BT[..., None])[..., None]

        def keys(x_BS: Tensor) -> Tensor:
            return piece.key.of(x_BS[..., None])[..., None, :]

        order = keys(self.order_BS)
        visible = order >= queries(self.low_BT)
        if self.marked_BS is not None:
            visible = visible | (keys(self.marked_BS) & (order >= queries(self.low_marked_BT)))
        return visible & (order <= queries(self.high_BT))


def attention(
    q_BTHD: Float[Tensor, "b t h d"],
    k_BSGD: Float[Tensor, "b s g d"],
    v_BSGD: Float[Tensor, "b s g d"],
    pieces: Pieces,
    *,
    visibility: Visibility | None = None,
    scale: float | None = None,
) -> tuple[Float[Tensor, "b t h d"], Float[Tensor, "b t h"]]:
    """Attention over the union of `pieces`, with exact gradients for q, k and v.

    Args:
        pieces: which queries meet which keys; no pair may be in two pieces.
        visibility: data-dependent visibility, instead of the pieces' bands.
        scale: factor of the scores; 1/sqrt(D) if `None`.

    Returns:
        Output in the dtype of q, and log-sum-exp of the scores in float32 (float64 for float64 input), which
        carries no gradient. A query that sees no key gets output 0 and log-sum-exp -inf.

    Raises:
        ConfigError: the number of key/value heads does not divide the number of query heads.
    """
    if q_BTHD.shape[2] % k_BSGD.shape[2]:
        raise ConfigError("kv_heads", k_BSGD.shape[2], f"must divide the number of query heads, {q_BTHD.shape[2]}")
    scale = q_BTHD.shape[-1] ** -0.5 if scale is None else scale
    tensors = [x.contiguous() for x in (q_BTHD, k_BSGD, v_BSGD)]
    if _backend == "reference" or not _fusable(*tensors):
        return reference(*tensors, pieces, visibility, scale)
    return _fused(*tensors, visibility.tensors() if visibility else [], encode(pieces), scale)


# --- The definition ------------------------------------------------------------------------------------------


def reference(
    q_BTHD: Tensor,
    k_BSGD: Tensor,
    v_BSGD: Tensor,
    pieces: Pieces,
    visibility: Visibility | None,
    scale: float,
) -> tuple[Tensor, Tensor]:
    """The definition, in plain differentiable PyTorch; memory is that of the scores of all pieces."""
    groups = q_BTHD.shape[2] // k_BSGD.shape[2]
    k_BSHD, v_BSHD = (x.repeat_interleave(groups, dim=2) for x in (k_BSGD, v_BSGD))
    out_BTHD = torch.zeros_like(q_BTHD, dtype=_accumulator(q_BTHD))
    lse_BTH = torch.full(q_BTHD.shape[:3], -torch.inf, dtype=out_BTHD.dtype, device=q_BTHD.device)
    for piece in pieces:
        q_NHLD, k_NHMD, v_NHMD = piece.query.of(q_BTHD), piece.key.of(k_BSHD), piece.key.of(v_BSHD)
        s_NHLM = (q_NHLD @ k_NHMD.transpose(-1, -2)).to(out_BTHD.dtype) * scale
        visible = _visible(piece, visibility, q_BTHD.device)
        if visible is None:
            visible = torch.ones((1, 1), dtype=torch.bool, device=q_BTHD.device)
        seen = visible.any(-1, keepdim=True)  # rows that see nothing get finite scores, and are hidden after
        s_NHLM = s_NHLM.masked_fill(~visible, -torch.inf).masked_fill(~seen, 0)
        l_NHL1 = s_NHLM.logsumexp(-1, keepdim=True)
        p_NHLM = torch.exp(s_NHLM - l_NHL1).masked_fill(~seen, 0)
        part_NHL = l_NHL1.masked_fill(~seen, -torch.inf)[..., 0]
        part_NHLD = (p_NHLM.to(v_NHMD.dtype) @ v_NHMD).to(out_BTHD.dtype)
        out_BTHD, lse_BTH = _merge_part(out_BTHD, lse_BTH, part_NHLD, part_NHL, piece)
    return out_BTHD.to(q_BTHD.dtype), lse_BTH.detach()


def _merge_part(
    out_BTHD: Tensor, lse_BTH: Tensor, part_NHLD: Tensor, part_NHL: Tensor, piece: Piece
) -> tuple[Tensor, Tensor]:
    """Puts one piece's result into the running softmax, out of place so that autograd can follow."""
    row = torch.arange(lse_BTH.shape[0] * lse_BTH.shape[1], device=lse_BTH.device).view(*lse_BTH.shape[:2], 1)
    row_NL = piece.query.of(row)[:, 0]
    full = torch.full_like(lse_BTH, -torch.inf).flatten(0, 1)
    part_lse = full.index_put((row_NL,), part_NHL.transpose(1, 2)).view_as(lse_BTH)
    part_out = torch.zeros_like(out_BTHD).flatten(0, 1).index_put((row_NL,), part_NHLD.transpose(1, 2))
    merged = _logaddexp(lse_BTH, part_lse)
    safe = merged.masked_fill(merged.detach() == -torch.inf, 0)
    out = out_BTHD * torch.exp(lse_BTH - safe)[..., None]
    return out + part_out.view_as(out) * torch.exp(part_lse - safe)[..., None], merged


def _logaddexp(a: Tensor, b: Tensor) -> Tensor:
    """logaddexp whose gradient is 0, not NaN, where both are -inf."""
    both = (a.detach() == -torch.inf) & (b.detach() == -torch.inf)
    return torch.logaddexp(a.masked_fill(both, 0), b.masked_fill(both, 0)).masked_fill(both, -torch.inf)


def _accumulator(q: Tensor) -> torch.dtype:
    return torch.float64 if q.dtype == torch.float64 else torch.float32


def _visible(piece: Piece, visibility: Visibility | None, device: torch.device) -> Tensor | None:
    """Which pairs of a piece are visible: (L, M), or (N, 1, L, M) by data, or `None` for all."""
    if visibility is not None:
        return visibility.of(piece)
    return piece.band(device) if piece.banded else None


# --- The fused form ------------------------------------------------------------------------------------------

_FLASH_SCHEMA = (
    "aten::_scaled_dot_product_flash_attention_for_cpu(Tensor query, Tensor key, Tensor value, float dropout_p=0., "
    "bool is_causal=False, *, Tensor? attn_mask=None, float? scale=None) -> (Tensor output, Tensor logsumexp)"
)


def flash_available() -> bool:
    """Whether torch's private CPU flash operator is the one this file was written for."""
    op = getattr(torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu", None)
    return op is not None and str(op.default._schema) == _FLASH_SCHEMA


_FLASH_AVAILABLE = flash_available()


def _fusable(*tensors: Tensor) -> bool:
    return _FLASH_AVAILABLE and all(x.device.type == "cpu" and x.numel() > 0 for x in tensors)


@torch.library.custom_op("everlong::attention", mutates_args=())
def _fused(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    visibility: Sequence[Tensor],
    pieces: Sequence[int],
    scale: float,
) -> tuple[Tensor, Tensor]:
    parts = [(piece, *_flash(piece, q, k, v, visibility, scale)) for piece in decode(pieces)]
    lse = torch.full(q.shape[:3], -torch.inf, dtype=_accumulator(q))
    for piece, _, part_lse in parts:
        lse_NHL = piece.query.of(lse)
        lse_NHL.copy_(torch.logaddexp(lse_NHL, part_lse))
    out = torch.zeros_like(q, dtype=_accumulator(q) if len(parts) > 1 else q.dtype)
    for piece, part, part_lse in parts:
        weight = torch.exp(part_lse - piece.query.of(lse)).nan_to_num_(0.0)  # nan: -inf - -inf, a row without keys
        piece.query.of(out).addcmul_(part.to(out.dtype), weight.to(out.dtype)[..., None])
    return out.to(q.dtype), lse


@_fused.register_fake
def _(q, k, v, visibility, pieces, scale):
    return torch.empty_like(q), q.new_empty(q.shape[:3], dtype=_accumulator(q))


@torch.library.custom_op("everlong::attention_backward", mutates_args=())
def _fused_backward(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    lse: Tensor,
    visibility: Sequence[Tensor],
    pieces: Sequence[int],
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    lse = lse.masked_fill(lse == -torch.inf, torch.inf)  # exp(score - inf) = 0: a row without keys gives nothing
    grads = tuple(torch.zeros_like(x) for x in (q, k, v))
    for piece in decode(pieces):
        queries = [piece.query.of(x) for x in (grad, q, out, lse)]
        g_NHLD, q_NHLD, o_NHLD, l_NHL = queries
        mask, causal = _flash_mask(piece, q, visibility)
        shares = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
            g_NHLD,
            q_NHLD,
            piece.key.of(k),
            piece.key.of(v),
            o_NHLD,
            l_NHL,
            0.0,
            causal,
            attn_mask=mask,
            scale=scale,
        )
        for total, view, share in zip(grads, (piece.query, piece.key, piece.key), shares, strict=True):
            view.of(total).add_(share)
    return grads


@_fused_backward.register_fake
def _(grad, q, k, v, out, lse, visibility, pieces, scale):
    return torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)


def _flash(
    piece: Piece, q: Tensor, k: Tensor, v: Tensor, visibility: Sequence[Tensor], scale: float
) -> tuple[Tensor, Tensor]:
    """One piece through torch's kernel: output (N, H, L, D) and log-sum-exp (N, H, L)."""
    mask, causal = _flash_mask(piece, q, visibility)
    out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        piece.query.of(q), piece.key.of(k), piece.key.of(v), 0.0, causal, attn_mask=mask, scale=scale
    )
    if mask is not None:  # the kernel returns log-sum-exp 0, not -inf, for a row that sees nothing
        lse = lse.masked_fill((mask == -torch.inf).all(-1), -torch.inf)
    return out, lse


def _flash_mask(piece: Piece, q: Tensor, visibility: Sequence[Tensor]) -> tuple[Tensor | None, bool]:
    """The additive mask and the causal flag that make torch's kernel see exactly the piece's pairs."""
    if not visibility and piece.causal_square:
        return None, True
    visible = _visible(piece, Visibility(*visibility) if visibility else None, q.device)
    if visible is None:
        return None, False
    zeros = torch.zeros(visible.shape, dtype=q.dtype)
    return zeros.masked_fill_(~visible, -torch.inf), False


def _save_for_backward(ctx, inputs, output) -> None:
    q, k, v, visibility, ctx.pieces, ctx.scale = inputs
    out, lse = output
    ctx.mark_non_differentiable(lse)
    ctx.save_for_backward(q, k, v, out, lse, *visibility)


def _backward(ctx, grad, _grad_lse):
    q, k, v, out, lse, *visibility = ctx.saved_tensors
    grads = _fused_backward(grad.contiguous(), q, k, v, out, lse, visibility, ctx.pieces, ctx.scale)
    return *grads, [None] * len(visibility), None, None


_fused.register_autograd(_backward, setup_context=_save_for_backward)
