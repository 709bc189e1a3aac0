"""Partial attention on the CPU, through torch's own flash kernel, without a copy.

Legend: as in `attention.py`, whose identity this uses: B batch rows, T queries a row, S keys a row, H query heads,
G key/value heads, D head size; inside a piece: N sequences, L queries, M keys.

The kernel is a private operator of torch: it is used only if it has the schema this file was written for. What is
known of it: the last dimension must have stride 1; empty queries or keys kill the process; a row whose mask hides
every key gets log-sum-exp 0 instead of -inf; it works through whole tiles of 512 keys, so a causal square of 512
positions costs as much as the full one.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from everlong.kernels.pieces import (
    Piece,
    Pieces,
    Visibility,
    accumulator,
    decode,
    encode,
    halve_squares,
    visible_pairs,
)

SMALLEST_SQUARE = 256  # causal squares are halved down to this: halves the masked work, and merging stays cheap

FLASH_SCHEMA = (
    "aten::_scaled_dot_product_flash_attention_for_cpu(Tensor query, Tensor key, Tensor value, float dropout_p=0., "
    "bool is_causal=False, *, Tensor? attn_mask=None, float? scale=None) -> (Tensor output, Tensor logsumexp)"
)


def flash_schema() -> str | None:
    """The schema of torch's operator; `None` if there is none."""
    op = getattr(torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu", None)
    return None if op is None else str(op.default._schema)


FLASH_FITS = flash_schema() == FLASH_SCHEMA  # asked once: it costs as much as a small piece


def flash_available(q: Tensor) -> bool:
    """Whether this form can take such a query."""
    return FLASH_FITS and q.device.type == "cpu" and q.numel() > 0


def flash_attention(
    q: Tensor, k: Tensor, v: Tensor, pieces: Pieces, visibility: Visibility | None, scale: float
) -> tuple[Tensor, Tensor]:
    """`attention` for contiguous (B, T, H, D) queries and (B, S, G, D) keys and values."""
    pieces = tuple(piece for piece in pieces if piece.query.length and piece.key.length)
    pieces = halve_squares(pieces, SMALLEST_SQUARE) if visibility is None else pieces
    return _flash(q, k, v, visibility.tensors() if visibility else [], encode(pieces), scale)


@torch.library.custom_op(
    "everlong::attention",
    mutates_args=(),
    schema="(Tensor q, Tensor k, Tensor v, Tensor[] visibility, int[] pieces, float scale) -> (Tensor, Tensor)",
)
def _flash(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    visibility: Sequence[Tensor],
    pieces: Sequence[int],
    scale: float,
) -> tuple[Tensor, Tensor]:
    patterns = decode(pieces)
    lse = torch.full(q.shape[:3], -torch.inf, dtype=accumulator(q))
    out = torch.zeros_like(q, dtype=accumulator(q) if len(patterns) > 1 else q.dtype)
    for piece in patterns:
        _merge(piece, q, k, v, visibility, scale, out, lse)
    return out.to(q.dtype), lse


@_flash.register_fake
def _(q, k, v, visibility, pieces, scale):
    return torch.empty_like(q), q.new_empty(q.shape[:3], dtype=accumulator(q))


@torch.library.custom_op(
    "everlong::attention_backward",
    mutates_args=(),
    schema="(Tensor grad, Tensor q, Tensor k, Tensor v, Tensor out, Tensor lse, Tensor[] visibility, int[] pieces, "
    "float scale) -> (Tensor, Tensor, Tensor)",
)
def _flash_backward(
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
    grads = torch.zeros_like(q), torch.zeros_like(k), torch.zeros_like(v)
    for piece in decode(pieces):
        _add_share(piece, grad, q, k, v, out, lse, visibility, scale, grads)
    return grads


@_flash_backward.register_fake
def _(grad, q, k, v, out, lse, visibility, pieces, scale):
    return torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)


def _merge(
    piece: Piece,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    visibility: Sequence[Tensor],
    scale: float,
    out: Tensor,
    lse: Tensor,
) -> None:
    """Takes one piece into the running softmax, in place: no more than one piece's output is held."""
    part, part_lse = _piece(piece, q, k, v, visibility, scale)
    out_NHLD, lse_NHL = piece.query.of(out), piece.query.of(lse)
    share = torch.sigmoid(part_lse - lse_NHL).nan_to_num_(0.0)  # nan: -inf - -inf, a row without keys so far
    out_NHLD.lerp_(part.to(out.dtype), share.to(out.dtype)[..., None])  # exp(l_part - l) part + exp(l_old - l) old
    lse_NHL.copy_(torch.logaddexp(lse_NHL, part_lse))


def _add_share(
    piece: Piece,
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    lse: Tensor,
    visibility: Sequence[Tensor],
    scale: float,
    grads: tuple[Tensor, Tensor, Tensor],
) -> None:
    """Adds one piece's share of the gradients, in place."""
    g_NHLD, q_NHLD, o_NHLD, l_NHL = (piece.query.of(x) for x in (grad, q, out, lse))
    mask, causal = _mask(piece, q, visibility)
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


def _piece(
    piece: Piece, q: Tensor, k: Tensor, v: Tensor, visibility: Sequence[Tensor], scale: float
) -> tuple[Tensor, Tensor]:
    """One piece through torch's kernel: output (N, H, L, D) and log-sum-exp (N, H, L)."""
    mask, causal = _mask(piece, q, visibility)
    out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        piece.query.of(q), piece.key.of(k), piece.key.of(v), 0.0, causal, attn_mask=mask, scale=scale
    )
    if mask is not None:  # the kernel returns log-sum-exp 0, not -inf, for a row that sees nothing
        lse = lse.masked_fill((mask == -torch.inf).all(-1), -torch.inf)
    return out, lse


def _mask(piece: Piece, q: Tensor, visibility: Sequence[Tensor]) -> tuple[Tensor | None, bool]:
    """The additive mask and the causal flag that make torch's kernel see exactly the piece's pairs."""
    if not visibility and piece.causal_square:
        return None, True
    visible = visible_pairs(piece, Visibility(*visibility) if visibility else None, q.device)
    if visible is None:
        return None, False
    zeros = torch.zeros(visible.shape, dtype=q.dtype)
    return zeros.masked_fill_(~visible, -torch.inf), False


def _setup_context(ctx, inputs, output) -> None:
    q, k, v, visibility, ctx.pieces, ctx.scale = inputs
    out, lse = output
    ctx.mark_non_differentiable(lse)
    ctx.save_for_backward(q, k, v, out, lse, *visibility)


def _backward(ctx, grad, _grad_lse):
    q, k, v, out, lse, *visibility = ctx.saved_tensors
    grads = _flash_backward(grad.contiguous(), q, k, v, out, lse, visibility, ctx.pieces, ctx.scale)
    no_pieces = None if ctx.pieces else []  # torch takes an empty list for a list of tensors
    return *grads, [None] * len(visibility), no_pieces, None


_flash.register_autograd(_backward, setup_context=_setup_context)
