"""Partial attention through torch's own fused operators, merged in place, without a copy.

Legend: as in `attention.py`, whose identity this uses: B batch rows, T queries a row, S keys a row, H query heads,
G key/value heads, D head size; inside a piece: N sequences, L queries, M keys.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from everlong.kernels.fused_operators import CpuFlash, Cuda, Met, Operator, fits
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

SMALLEST_SQUARE = 256
"""Causal squares are halved down to this on the CPU: halves the masked work, and merging stays cheap."""

OPERATORS: dict[str, Operator] = {"cpu": CpuFlash(), "cuda": Cuda()}
FITS = {device: fits(operator) for device, operator in OPERATORS.items()}  # asked once: it costs a small piece's time


def fused_available(q: Tensor) -> bool:
    """Whether there is an operator for such a query."""
    half_or_single = q.dtype != torch.float64 or q.is_cpu
    return FITS.get(q.device.type, False) and half_or_single and q.numel() > 0


def fused_attention(
    q: Tensor, k: Tensor, v: Tensor, pieces: Pieces, visibility: Visibility | None, scale: float
) -> tuple[Tensor, Tensor]:
    """`attention` for contiguous (B, T, H, D) queries and (B, S, G, D) keys and values."""
    pieces = tuple(piece for piece in pieces if piece.query.length and piece.key.length)
    pieces = halve_squares(pieces, SMALLEST_SQUARE) if visibility is None and q.is_cpu else pieces
    return _fused(q, k, v, visibility.tensors() if visibility else [], encode(pieces), scale)


@torch.library.custom_op(
    "everlong::attention",
    mutates_args=(),
    schema="(Tensor q, Tensor k, Tensor v, Tensor[] visibility, int[] pieces, float scale) -> (Tensor, Tensor)",
)
def _fused(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    visibility: Sequence[Tensor],
    pieces: Sequence[int],
    scale: float,
) -> tuple[Tensor, Tensor]:
    patterns = decode(pieces)
    lse = torch.full(q.shape[:3], -torch.inf, dtype=accumulator(q), device=q.device)
    out = torch.zeros_like(q, dtype=accumulator(q) if len(patterns) > 1 else q.dtype)
    for piece in patterns:
        met = _met(piece, q, k, v, visibility, scale)
        put = _put if len(patterns) == 1 and met.visible is None else _merge
        put(piece, met, out, lse)
    return out.to(q.dtype), lse


@_fused.register_fake
def _(q, k, v, visibility, pieces, scale):
    return torch.empty_like(q), q.new_empty(q.shape[:3], dtype=accumulator(q))


@torch.library.custom_op(
    "everlong::attention_backward",
    mutates_args=(),
    schema="(Tensor grad, Tensor q, Tensor k, Tensor v, Tensor out, Tensor lse, Tensor[] visibility, int[] pieces, "
    "float scale) -> (Tensor, Tensor, Tensor)",
)
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
    grads = torch.zeros_like(q), torch.zeros_like(k), torch.zeros_like(v)
    for piece in decode(pieces):
        _add_share(piece, _met(piece, q, k, v, visibility, scale), grad, out, lse, grads)
    return grads


@_fused_backward.register_fake
def _(grad, q, k, v, out, lse, visibility, pieces, scale):
    return torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)


def _put(piece: Piece, met: Met, out: Tensor, lse: Tensor) -> None:
    """Puts the only piece, each of whose queries sees a key, into its place."""
    part, part_lse = OPERATORS[out.device.type].forward(met)
    piece.query.of(out).copy_(part)
    piece.query.of(lse).copy_(part_lse)


def _merge(piece: Piece, met: Met, out: Tensor, lse: Tensor) -> None:
    """Takes one piece into the running softmax, in place: no more than one piece's output is held."""
    part, part_lse = OPERATORS[out.device.type].forward(met)
    out_NHLD, lse_NHL = piece.query.of(out), piece.query.of(lse)
    share = torch.sigmoid(part_lse - lse_NHL).nan_to_num_(0.0)  # nan: -inf - -inf, a row without keys so far
    out_NHLD.lerp_(part.to(out.dtype), share.to(out.dtype)[..., None])  # exp(l_part - l) part + exp(l_old - l) old
    lse_NHL.copy_(torch.logaddexp(lse_NHL, part_lse))


def _add_share(
    piece: Piece, met: Met, grad: Tensor, out: Tensor, lse: Tensor, grads: tuple[Tensor, Tensor, Tensor]
) -> None:
    """Adds one piece's share of the gradients, in place."""
    grad_NHLD, out_NHLD, lse_NHL = (piece.query.of(x) for x in (grad, out, lse))
    shares = OPERATORS[out.device.type].backward(met, grad_NHLD, out_NHLD, lse_NHL)
    for total, view, share in zip(grads, (piece.query, piece.key, piece.key), shares, strict=True):
        view.of(total).add_(share)


def _met(piece: Piece, q: Tensor, k: Tensor, v: Tensor, visibility: Sequence[Tensor], scale: float) -> Met:
    """A piece as what an operator takes: of causal squares it knows, of other pairs it is told."""
    causal = not visibility and piece.causal_square
    by_data = Visibility(*visibility) if visibility else None
    visible = None if causal else visible_pairs(piece, by_data, q.device)
    return Met(piece.query.of(q), piece.key.of(k), piece.key.of(v), visible, causal, scale)


def _setup_context(ctx, inputs, output) -> None:
    q, k, v, visibility, ctx.pieces, ctx.scale = inputs
    out, lse = output
    ctx.mark_non_differentiable(lse)
    ctx.save_for_backward(q, k, v, out, lse, *visibility)


def _backward(ctx, grad, _grad_lse):
    q, k, v, out, lse, *visibility = ctx.saved_tensors
    grads = _fused_backward(grad.contiguous(), q, k, v, out, lse, visibility, ctx.pieces, ctx.scale)
    no_pieces = None if ctx.pieces else []  # torch takes an empty list for a list of tensors
    return *grads, [None] * len(visibility), no_pieces, None


_fused.register_autograd(_backward, setup_context=_setup_context)
