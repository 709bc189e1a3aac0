"""Partial attention, merged exactly: the one primitive behind every attention pattern.

Legend: B batch rows, T queries a row, S keys a row, H query heads, G key/value heads (G divides H), D head size;
inside a piece: N sequences, L queries, M keys.

One softmax over the multiset union of what the pieces of a pattern let a query see. Piece i returns its own normalised
output o_i and log-sum-exp l_i; with l = logaddexp_i(l_i),

    o = sum_i exp(l_i - l) * o_i.

Backward: with the *merged* (o, l), piece i's probabilities are P_i = exp(S_i - l), which sum to the whole softmax,
and the flash backward of each piece, dS_i = P_i * (dO V_i^T - rowsum(dO * o)), is its exact share of the gradient;
the shares add up. So every piece's backward is given the merged output and log-sum-exp, and no gradient through
the mixture weights is written anywhere (Liu et al. 2023, Ring Attention, arXiv 2310.01889, use the same identity
across devices).

`reference` is the definition, in differentiable PyTorch, for every device. `attention_fused.py` runs the same pieces
through torch's own fused operators. On an accelerator it is used if a small example shows, once, that it agrees there
with the definition.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from everlong.core.errors import ConfigError
from everlong.kernels.attention_fused import fused_attention, fused_available
from everlong.kernels.pieces import Piece, Pieces, View, Visibility, accumulator, visible_pairs

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


def attention(
    q_BTHD: Float[Tensor, "b t h d"],
    k_BSGD: Float[Tensor, "b s g d"],
    v_BSGD: Float[Tensor, "b s g d"],
    pieces: Pieces,
    *,
    visibility: Visibility | None = None,
    scale: float | None = None,
) -> tuple[Float[Tensor, "b t h d"], Float[Tensor, "b t h"]]:
    """Attention over the multiset union of `pieces`, with exact gradients for q, k and v.

    Args:
        pieces: which queries meet which keys; a pair in two pieces counts twice.
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
    scale = float(q_BTHD.shape[-1] ** -0.5) if scale is None else scale
    q, k, v = q_BTHD.contiguous(), k_BSGD.contiguous(), v_BSGD.contiguous()
    if _backend == "auto" and fused_available(q) and (q.is_cpu or agrees(q.device.type, q.dtype)):
        return fused_attention(q, k, v, pieces, visibility, scale)
    return reference(q, k, v, pieces, visibility, scale)


def attend(
    q_BTHD: Float[Tensor, "b t h d"],
    k_BSGD: Float[Tensor, "b s g d"],
    v_BSGD: Float[Tensor, "b s g d"],
    pieces: Pieces,
    *,
    visibility: Visibility | None = None,
    scale: float | None = None,
) -> Float[Tensor, "b t h d"]:
    """The output of `attention` alone. Where a whole pattern is one causal square, an accelerator's own fused
    attention gives it; that does not return the log-sum-exp."""
    whole = View(0, q_BTHD.shape[0], q_BTHD.shape[1], q_BTHD.shape[1])
    one_square = visibility is None and pieces == (Piece(whole, whole, high=0),)
    if _backend == "auto" and one_square and q_BTHD.device.type != "cpu":
        return one_causal_square(q_BTHD, k_BSGD, v_BSGD, scale)
    return attention(q_BTHD, k_BSGD, v_BSGD, pieces, visibility=visibility, scale=scale)[0]


def one_causal_square(q_BTHD: Tensor, k_BTGD: Tensor, v_BTGD: Tensor, scale: float | None = None) -> Tensor:
    """Causal attention of whole rows to themselves, by torch's public operator."""
    q, k, v = (x.transpose(1, 2) for x in (q_BTHD, k_BTGD, v_BTGD))
    return F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale, enable_gqa=True).transpose(1, 2)


# --- Whether the fused form is the definition on a device ------------------------------------------------------

EXAMPLE = (
    Piece(View(0, 2, 20, 16), View(0, 2, 20, 16), high=0),
    Piece(View(3, 1, 36, 18, step=2), View(0, 1, 20, 19), low=-4, high=-2),
    Piece(View(21, 1, 19, 19), View(0, 1, 20, 20)),
)
"""Causal squares; a band in which the first queries see nothing; a rectangle."""


@torch.compiler.assume_constant_result  # what it does is not for a graph
@cache
def agrees(device: str, dtype: torch.dtype) -> bool:
    """Whether the fused form gives what the definition gives, gradients included; else it warns that it is not used."""
    try:
        with ThreadPoolExecutor(1) as clean:  # no autocast, inference or counting of whoever asks first
            off = clean.submit(_example_is_off, device, dtype).result()
    except (RuntimeError, NotImplementedError, AssertionError) as error:
        off = f"it fails: {error}"
    if off:
        told = f"torch's fused attention is not used on {device} in {dtype}, and attention is slower: {off}"
        warnings.warn(told, RuntimeWarning, stacklevel=2)
    return not off


def _example_is_off(device: str, dtype: torch.dtype) -> str:
    """By how much, as a sentence; empty if it is not."""
    generator = torch.Generator().manual_seed(0)
    drawn = (torch.randn(1, 40, heads, 16, generator=generator).to(device, dtype) for heads in (4, 2, 2, 4))
    q, k, v, weight = (x.requires_grad_() for x in drawn)
    found = []
    for form in (fused_attention, reference):
        out, lse = form(q, k, v, EXAMPLE, None, 0.3)
        found.append(
            [out.detach(), lse.masked_fill(lse.isneginf(), 0), *torch.autograd.grad((out * weight).sum(), (q, k, v))]
        )
    tolerance = 1e-2 if dtype == torch.float32 else 6e-2  # products of an accelerator may be rounded to ten bits
    for name, one, other in zip(("output", "log-sum-exp", "dq", "dk", "dv"), *found, strict=True):
        error = float((one.double() - other.double()).abs().max() / other.double().abs().max())
        if not error < tolerance:
            return f"{name} of an example is off by {error:.1e} of its largest value"
    return ""


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
    out_BTHD = torch.zeros_like(q_BTHD, dtype=accumulator(q_BTHD))
    lse_BTH = torch.full(q_BTHD.shape[:3], -torch.inf, dtype=out_BTHD.dtype, device=q_BTHD.device)
    for piece in pieces:
        q_NHLD, k_NGMD, v_NGMD = piece.query.of(q_BTHD), piece.key.of(k_BSGD), piece.key.of(v_BSGD)
        groups = q_NHLD.shape[1] // k_NGMD.shape[1]
        k_NHMD, v_NHMD = (x.repeat_interleave(groups, dim=1) for x in (k_NGMD, v_NGMD))
        s_NHLM = (q_NHLD @ k_NHMD.transpose(-1, -2)).to(out_BTHD.dtype) * scale
        visible = visible_pairs(piece, visibility, q_BTHD.device)
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
    index_NHL = piece.query.of(torch.arange(lse_BTH.numel(), device=lse_BTH.device).view_as(lse_BTH))
    full = torch.full_like(lse_BTH, -torch.inf).flatten()
    part_lse = full.index_put((index_NHL,), part_NHL).view_as(lse_BTH)
    part_out = torch.zeros_like(out_BTHD).flatten(0, 2).index_put((index_NHL,), part_NHLD)
    merged = _logaddexp(lse_BTH, part_lse)
    safe = merged.masked_fill(merged.detach() == -torch.inf, 0)
    out = out_BTHD * torch.exp(lse_BTH - safe)[..., None]
    return out + part_out.view_as(out) * torch.exp(part_lse - safe)[..., None], merged


def _logaddexp(a: Tensor, b: Tensor) -> Tensor:
    """logaddexp whose gradient is 0, not NaN, where both are -inf."""
    both = (a.detach() == -torch.inf) & (b.detach() == -torch.inf)
    return torch.logaddexp(a.masked_fill(both, 0), b.masked_fill(both, 0)).masked_fill(both, -torch.inf)
