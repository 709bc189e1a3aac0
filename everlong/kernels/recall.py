"""What a compressive memory recalls, mixed with what was heard locally, block by block.

Legend: N stretches, each of L positions with one memory; G key/value heads, R query heads of each; E head size of keys,
F of values, K = F + 1; P = L R rows of a key/value head in one product.

With sigma(x) = ELU(x) + 1, a memory M and its normaliser z, and the share g of a head,

    s = sigma(q),   w = s z,   y = (1 - g) local + g s M / w        where w > 0,   y = local elsewhere

(Munkhdalai et al. 2024, arXiv 2404.07143, eq. 7 and 10). The gate is shut where nothing was written, and where so
little is read that 1 / w^2 overflows: w below 1e-19 in float32, or 1e-154 in float64, counts as 0.

This is a dozen small operations beside two products, and over a whole call each of them moves (T, H, E) through memory.
Here a block of stretches, or of a stretch's positions, small enough for a cache, is taken through all of them, and the
backward pass computes them again: nothing is kept but what came in. A block has all heads, and so is one piece of
memory: the rows of a single head lie a power of two apart, and share a small part of the cache.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor

BLOCK = 2**19
"""Numbers of a block's queries."""


def sigma(x: Float[Tensor, "*rest e"]) -> Float[Tensor, "*rest e"]:
    """ELU(x) + 1, as max(x, 0) + exp(min(x, 0)): the sum as it is written cancels below -17 in float32, and a memory of
    many segments counts on keys that write next to nothing."""
    return x.clamp(min=0).add_(x.clamp(max=0).exp_())  # neither gradient needs what is overwritten


def recall(
    s: Float[Tensor, "*rest n e"], memory: Float[Tensor, "*rest e k"]
) -> tuple[Float[Tensor, "*rest n f"], Float[Tensor, "*rest n 1"]]:
    """What a memory, M and z side by side, holds for features, and 1 / w of each; both 0 where w = 0."""
    total, inverse = _total(s, memory)
    return total * inverse, inverse


def reciprocal(weight: Float[Tensor, "*rest 1"]) -> Float[Tensor, "*rest 1"]:
    """1 / w, and 0 where w counts as 0. It is taken before any product: 0/0 would leave NaN in the gradient, and so
    would 1 / w^2, which the gradient has in it, if it were more than the precision can hold."""
    known = weight > torch.finfo(weight.dtype).tiny ** 0.5
    return known / torch.where(known, weight, 1)


def _total(s: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
    """s M, and 1 / w."""
    both = s @ memory
    return both[..., :-1], reciprocal(both[..., -1:])


def read(
    q_NLHE: Float[Tensor, "n l h e"],
    local_NLHF: Float[Tensor, "n l h f"],
    memory_NGEK: Float[Tensor, "n g e k"],
    share_H: Float[Tensor, " h"],
) -> Float[Tensor, "n l h f"]:
    """y of every stretch, computed in the memory's precision.

    Args:
        local_NLHF: what was heard locally.
        memory_NGEK: M and z side by side, in float32 or better; query head h reads that of head floor(h / R).
        share_H: g.
    """
    G = memory_NGEK.shape[1]
    inputs = [x.unflatten(2, (G, -1)) for x in (q_NLHE, local_NLHF)]
    inputs += [memory_NGEK, share_H.to(memory_NGEK.dtype).view(G, -1)]
    with torch.autocast(q_NLHE.device.type, enabled=False):  # sums over many segments outgrow bfloat16
        in_blocks = q_NLHE.is_cpu and q_NLHE.shape[1] > 1
        return (_read(*inputs) if in_blocks else _mixed(*inputs)).flatten(2, 3)


def _mixed(q_NLGRE: Tensor, local_NLGRF: Tensor, memory_NGEK: Tensor, share_GR: Tensor) -> Tensor:
    """y of one block."""
    exact = memory_NGEK.dtype
    total, inverse = _total(sigma(_rows(q_NLGRE, exact)), memory_NGEK)
    share_GP1 = _of_rows(share_GR, total.shape[2])
    kept = _rows(local_NLGRF, exact) * (1 - share_GP1 * (inverse > 0))
    mixed = kept.addcmul_(total, share_GP1 * inverse).to(local_NLGRF.dtype)
    return rearrange(mixed, "n g (l r) f -> n l g r f", r=q_NLGRE.shape[3])


def blocks(x_NLG: Tensor) -> Iterator[tuple[slice, slice]]:
    """Stretches and positions of a tensor (N, L, G, ...) that are taken together."""
    N, L = x_NLG.shape[:2]
    position = x_NLG.numel() // (N * L)
    stretches, positions = max(1, BLOCK // (L * position)), max(1, BLOCK // position)
    for n in range(0, N, stretches):
        for begin in range(0, L, positions):
            yield slice(n, n + stretches), slice(begin, begin + positions)


def _rows(x_NLGRE: Tensor, dtype: torch.dtype) -> Tensor:
    """A block as rows for products."""
    return for_products(rearrange(x_NLGRE.to(dtype), "n l g r e -> n g (l r) e"))


def for_products(x_NGPE: Tensor) -> Tensor:
    """Rows of a batch with two dimensions, which every product would copy where both are more than one and strided."""
    return x_NGPE if 1 in x_NGPE.shape[:2] else x_NGPE.contiguous()


def _of_rows(share_GR: Tensor, P: int) -> Tensor:
    """The share of each of P rows."""
    return share_GR.repeat(1, P // share_GR.shape[1])[..., None]


@torch.library.custom_op(
    "everlong::read_memory", mutates_args=(), schema="(Tensor q, Tensor local, Tensor memory, Tensor share) -> Tensor"
)
def _read(q: Tensor, local: Tensor, memory: Tensor, share: Tensor) -> Tensor:
    y = torch.empty_like(local, memory_format=torch.contiguous_format)
    for n, t in blocks(q):
        y[n, t] = _mixed(q[n, t], local[n, t], memory[n], share)
    return y


@_read.register_fake
def _(q, local, memory, share):
    return torch.empty_like(local, memory_format=torch.contiguous_format)


@torch.library.custom_op(
    "everlong::read_memory_backward",
    mutates_args=(),
    schema="(Tensor gy, Tensor q, Tensor local, Tensor memory, Tensor share) -> (Tensor, Tensor, Tensor, Tensor)",
)
def _read_backward(
    gy: Tensor, q: Tensor, local: Tensor, memory: Tensor, share: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    gq, glocal = (torch.empty_like(x, memory_format=torch.contiguous_format) for x in (q, local))
    gmemory, gshare = torch.zeros_like(memory), torch.zeros_like(share)
    R, exact = q.shape[3], memory.dtype
    for n, t in blocks(q):
        rows_y, rows_q, rows_local = (_rows(x[n, t], exact) for x in (gy, q, local))
        found = _gradients(rows_y, rows_q, rows_local, memory[n], _of_rows(share, rows_y.shape[2]))
        gq[n, t], glocal[n, t] = (rearrange(x, "n g (l r) e -> n l g r e", r=R) for x in found[:2])
        gmemory[n] += found[2]
        gshare += rearrange(found[3], "n g (l r) -> g r (n l)", r=R).sum(-1)
    return gq, glocal, gmemory, gshare


@_read_backward.register_fake
def _(gy, q, local, memory, share):
    shaped = (torch.empty_like(x, memory_format=torch.contiguous_format) for x in (q, local))
    return *shaped, torch.empty_like(memory), torch.empty_like(share)


def _gradients(
    gy: Float[Tensor, "n g p f"],
    q: Float[Tensor, "n g p e"],
    local: Float[Tensor, "n g p f"],
    memory: Float[Tensor, "n g e k"],
    share: Float[Tensor, "g p 1"],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of the queries, what was heard locally, the memory, and the share of every row."""
    s = sigma(q)
    total, inverse = _total(s, memory)
    known: Bool[Tensor, "n g p 1"] = inverse > 0
    slope, by_local = ((gy * x).sum(-1, keepdim=True) for x in (total, local))  # of y in what is mixed
    gvalue = share * inverse  # of s M
    gboth = torch.cat([gy * gvalue, -gvalue * inverse * slope], dim=-1)
    gs = gboth @ memory.mT
    gshare = inverse * slope - known * by_local
    return gs.mul_(s.clamp(max=1)), gy * (1 - share * known), s.mT @ gboth, gshare[..., 0]


def _setup_context(ctx, inputs, output) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx, gy):
    return _read_backward(gy, *ctx.saved_tensors)


_read.register_autograd(_backward, setup_context=_setup_context)
