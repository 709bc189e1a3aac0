"""What segments write into a compressive memory: sums of outer products, block by block.

Legend: J segments of N positions, each with a memory of its own; G heads; E head size of keys, F of values, K = F + 1.

With sigma(x) = ELU(x) + 1 (`recall.py`), s_t = sigma(k_t), w_t = b_t s_t with a strength b_t, or w_t = s_t without,

    written:      sum_t w_t^T [v_t, 1]                              what is added to M and z
    corrections:  sum_t w_t^T s_t / (s_t z)          0 for 0/0      the share of the old that is taken back

(Munkhdalai et al. 2024, arXiv 2404.07143, eq. 8 and 9). Features, weights and quotients of a whole call would move
(J, N, G, E) through memory again and again. Here a block of segments, or of a segment's positions, small enough for a
cache, is taken through all of it, and the backward pass computes them again: nothing is kept but what came in.
"""

from __future__ import annotations

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.library import CustomOpDef

from everlong.kernels.recall import blocks, for_products, reciprocal, sigma

Strength = Float[Tensor, "j n g"] | None


def written(
    k_JNGE: Float[Tensor, "j n g e"], v_JNGF: Float[Tensor, "j n g f"], strength_JNG: Strength = None
) -> Float[Tensor, "j g e k"]:
    """sum_t w_t^T [v_t, 1] of every segment and head."""
    form = _written if _in_blocks(k_JNGE) else _written_by
    return form(k_JNGE, v_JNGF, strength_JNG)


def corrections(
    k_JNGE: Float[Tensor, "j n g e"], z_JGE: Float[Tensor, "j g e"], strength_JNG: Strength = None
) -> Float[Tensor, "j g e e"]:
    """sum_t w_t^T s_t / (s_t z) of every segment and head."""
    form = _corrections if _in_blocks(k_JNGE) else _corrections_by
    return form(k_JNGE, z_JGE, strength_JNG)


def _in_blocks(k_JNGE: Tensor) -> bool:
    return k_JNGE.is_cpu and k_JNGE.shape[1] > 1


def _rows(x_JNGE: Tensor) -> Tensor:
    """A block as rows for products."""
    return for_products(x_JNGE.transpose(1, 2))


def _places(x_JGNE: Tensor) -> Tensor:
    """The inverse."""
    return rearrange(x_JGNE, "j g n e -> j n g e")


def _column(strength_JNG: Tensor) -> Tensor:
    return rearrange(strength_JNG, "j n g -> j g n 1")


def _weighted(s_JGNE: Tensor, strength_JNG: Tensor | None) -> Tensor:
    return s_JGNE if strength_JNG is None else s_JGNE * _column(strength_JNG)


def _written_by(k_JNGE: Tensor, v_JNGF: Tensor, strength_JNG: Tensor | None) -> Tensor:
    """`written` of one block."""
    w_JGNE = _weighted(sigma(_rows(k_JNGE)), strength_JNG)
    return torch.cat([w_JGNE.mT @ _rows(v_JNGF), w_JGNE.sum(-2)[..., None]], dim=-1)


def _corrections_by(k_JNGE: Tensor, z_JGE: Tensor, strength_JNG: Tensor | None) -> Tensor:
    """`corrections` of one block."""
    s_JGNE = sigma(_rows(k_JNGE))
    by = reciprocal(s_JGNE @ z_JGE[..., None])
    return s_JGNE.mT @ (s_JGNE * (by if strength_JNG is None else by * _column(strength_JNG)))


# --- Sums ------------------------------------------------------------------------------------------------------


@torch.library.custom_op(
    "everlong::written", mutates_args=(), schema="(Tensor k, Tensor v, Tensor? strength) -> Tensor"
)
def _written(k: Tensor, v: Tensor, strength: Tensor | None) -> Tensor:
    total = _sums(k, v.shape[-1] + 1)
    for j, n in blocks(k):
        total[j] += _written_by(k[j, n], v[j, n], _of(strength, j, n))
    return total


@_written.register_fake
def _(k, v, strength):
    return _sums(k, v.shape[-1] + 1)


@torch.library.custom_op(
    "everlong::written_backward",
    mutates_args=(),
    schema="(Tensor grad, Tensor k, Tensor v, Tensor? strength) -> (Tensor, Tensor, Tensor)",
)
def _written_backward(grad: Tensor, k: Tensor, v: Tensor, strength: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    gk, gv, gstrength = _empty(k), _empty(v), _like(strength, k)
    for j, n in blocks(k):
        own, s_JGNE = _of(strength, j, n), sigma(_rows(k[j, n]))
        values, sums = grad[j, ..., :-1], grad[j, ..., -1]
        gw_JGNE = (_rows(v[j, n]) @ values.mT).add_(sums[..., None, :])
        gv[j, n] = _places(_weighted(s_JGNE, own) @ values)
        _put_gradients(gk[j, n], None if own is None else gstrength[j, n], gw_JGNE, 0, s_JGNE, own)
    return gk, gv, gstrength


# --- Corrections -----------------------------------------------------------------------------------------------


@torch.library.custom_op(
    "everlong::corrections", mutates_args=(), schema="(Tensor k, Tensor z, Tensor? strength) -> Tensor"
)
def _corrections(k: Tensor, z: Tensor, strength: Tensor | None) -> Tensor:
    total = _sums(k, k.shape[-1])
    for j, n in blocks(k):
        total[j] += _corrections_by(k[j, n], z[j], _of(strength, j, n))
    return total


@_corrections.register_fake
def _(k, z, strength):
    return _sums(k, k.shape[-1])


@torch.library.custom_op(
    "everlong::corrections_backward",
    mutates_args=(),
    schema="(Tensor grad, Tensor k, Tensor z, Tensor? strength) -> (Tensor, Tensor, Tensor)",
)
def _corrections_backward(grad: Tensor, k: Tensor, z: Tensor, strength: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    gk, gz, gstrength = _empty(k), torch.zeros_like(z), _like(strength, k)
    for j, n in blocks(k):
        own, s_JGNE = _of(strength, j, n), sigma(_rows(k[j, n]))
        inverse_JGN1 = reciprocal(s_JGNE @ z[j][..., None])
        r_JGNE = s_JGNE * inverse_JGN1
        gr_JGNE = _weighted(s_JGNE, own) @ grad[j]
        gw_JGNE = r_JGNE @ grad[j].mT
        gweight_JGN1 = -inverse_JGN1 * (gr_JGNE * r_JGNE).sum(-1, keepdim=True)
        gz[j] += (s_JGNE.mT @ gweight_JGN1)[..., 0]
        gs_JGNE = torch.addcmul(gr_JGNE * inverse_JGN1, gweight_JGN1, z[j][..., None, :])
        _put_gradients(gk[j, n], None if own is None else gstrength[j, n], gw_JGNE, gs_JGNE, s_JGNE, own)
    return gk, gz, gstrength


# --- Both ------------------------------------------------------------------------------------------------------


def _sums(k: Tensor, columns: int | torch.SymInt) -> Tensor:
    """A matrix (E, columns) of every segment and head, to add to."""
    return k.new_zeros(k.shape[0], *k.shape[2:], columns)


def _of(strength: Tensor | None, j: slice, n: slice) -> Tensor | None:
    return None if strength is None else strength[j, n]


def _empty(x: Tensor) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def _like(strength: Tensor | None, k: Tensor) -> Tensor:
    """Room for the strengths' gradient; none where there are none."""
    return k.new_empty(0) if strength is None else _empty(strength)


def _put_gradients(
    gk_JNGE: Tensor,
    gstrength_JNG: Tensor | None,
    gw_JGNE: Tensor,
    gs_JGNE: Tensor | int,
    s_JGNE: Tensor,
    strength_JNG: Tensor | None,
) -> None:
    """Gradients of a block's keys and strengths, from those of its weights and its features."""
    if gstrength_JNG is not None:
        gstrength_JNG.copy_(rearrange((gw_JGNE * s_JGNE).sum(-1), "j g n -> j n g"))
    gs_JGNE = gs_JGNE + _weighted(gw_JGNE, strength_JNG)
    gk_JNGE.copy_(_places(gs_JGNE.mul_(s_JGNE.clamp(max=1))))


def _differentiable(form: CustomOpDef, backward: CustomOpDef) -> None:
    """Gives an operator of keys, values or normalisers, and strengths, if there are any, its gradients."""

    def setup_context(ctx, inputs, output) -> None:
        ctx.save_for_backward(*inputs)

    def gradients(ctx, grad):
        k, other, strength = ctx.saved_tensors
        gk, gother, gstrength = backward(grad, k, other, strength)
        return gk, gother, None if strength is None else gstrength

    def shapes(grad, k, other, strength):
        return _empty(k), _empty(other), _like(strength, k)

    backward.register_fake(shapes)
    form.register_autograd(gradients, setup_context=setup_context)


_differentiable(_written, _written_backward)
_differentiable(_corrections, _corrections_backward)
