"""State-space duality (Dao & Gu 2024, arXiv 2405.21060): the recurrence of Mamba-2, in chunks, with a carried state.

Legend: B batch rows, T positions, H heads, P head size, G groups of heads, R = H / G heads of a group, N state size,
J = R P; inside a block: C chunks of Q positions. Head h belongs to group floor(h / R).

    S_t = exp(A_h dt_t) S_{t-1} + B_t (dt_t x_t)^T,   y_t = C_t^T S_t

In a chunk, with X = dt x and s the sums of A dt from the chunk's start, its own position included,

    Y_t = sum_{u <= t} (C_t . B_u) exp(s_t - s_u) X_u + exp(s_t) C_t^T S,
    S'  = exp(s_Q) S + sum_u exp(s_Q - s_u) B_u X_u^T.

*Factored*: exp(s_t - s_u) = exp(s_t - m) exp(m - s_u), with m the sum at the chunk's middle, so that all heads of a
group share one matrix product. Both factors must be finite; where they would not be, the block is computed *pairwise*:
exp(s_t - s_u) for every head and pair, in short chunks, with no exponent above 0. Documents are masked by their number,
never by a decay of minus infinity.

The backward pass keeps the inputs, the outputs, and the state before each block. The gradient of s needs no products
of its own: s_t multiplies Y_t and divides X_t, so it is <gY_t, Y_t> - <gX_t, X_t>, and <gS', S'> more at the end.

This plain form is the definition. On CUDA, in float32 and where Triton is installed, the kernels of `ssd_triton.py`
compute the same.
"""

from __future__ import annotations

from importlib.util import find_spec

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from everlong.core.config import check_divides
from everlong.core.errors import ContextError
from everlong.kernels.ssd_blocks import blocks, check_documents, cut_block, gradients, output, states_of

TRITON = find_spec("triton") is not None
"""Whether the kernels for CUDA can be used; without Triton the plain form runs there, too."""


def ssd(
    x_BTHP: Float[Tensor, "b t h p"],
    dt_BTH: Float[Tensor, "b t h"],
    A_H: Float[Tensor, " h"],
    B_BTGN: Float[Tensor, "b t g n"],
    C_BTGN: Float[Tensor, "b t g n"],
    *,
    state: Float[Tensor, "*given"] | None = None,
    documents: Int64[Tensor, "b t"] | None = None,
) -> tuple[Float[Tensor, "b t h p"], Float[Tensor, "b g n j"]]:
    """Continues the recurrence by T positions, in float32 or better.

    Args:
        dt_BTH: step sizes, at least 0; 0 where a position is not real: it changes nothing.
        A_H: rates, below 0.
        state: S before the first position (B, G, N, J); `None`: zeros.
        documents: numbers that never fall along a row: 0 for what goes on with the state, one more at every position
            that begins a document. `None`: all 0.

    Returns:
        y at every position, and S after the last, both in at least float32.

    Raises:
        ConfigError: the groups do not divide the heads.
        ContextError: no positions, a state of another shape, or documents that go backwards.
    """
    exact = torch.promote_types(x_BTHP.dtype, torch.float32)
    a_BTH = dt_BTH.to(exact) * A_H.to(exact)
    return decaying_sum(x_BTHP, dt_BTH, a_BTH, B_BTGN, C_BTGN, state=state, documents=documents)


def decaying_sum(
    x_BTHP: Float[Tensor, "b t h p"],
    w_BTH: Float[Tensor, "b t h"],
    a_BTH: Float[Tensor, "b t h"],
    B_BTGN: Float[Tensor, "b t g n"],
    C_BTGN: Float[Tensor, "b t g n"],
    *,
    state: Float[Tensor, "*given"] | None = None,
    documents: Int64[Tensor, "b t"] | None = None,
) -> tuple[Float[Tensor, "b t h p"], Float[Tensor, "b g n j"]]:
    """The same with weights and decays of their own: S_t = exp(a_t) S_{t-1} + B_t (w_t x_t)^T, y_t = C_t^T S_t.

    Args:
        w_BTH: weights; 0 where a position is not real.
        a_BTH: log decays, at most 0; 0 where a position is not real.

    Other arguments, what is returned and what is raised are those of `ssd`.
    """
    (B, T, H, P), (G, N) = x_BTHP.shape, B_BTGN.shape[2:]
    check_divides(G, H, "ssd groups", "heads")
    exact = torch.promote_types(x_BTHP.dtype, torch.float32)
    x_BTHP, w_BTH, a_BTH, B_BTGN, C_BTGN = (z.to(exact) for z in (x_BTHP, w_BTH, a_BTH, B_BTGN, C_BTGN))
    shape = B, G, N, H // G * P
    if T == 0:
        raise ContextError("x_BTHP", "0 positions", "must hold at least one position")
    if state is not None and state.shape != shape:
        raise ContextError("state", tuple(state.shape), f"must be {shape}: pass what this very part returned")
    s_BGNJ = x_BTHP.new_zeros(shape) if state is None else state.to(exact)
    if T == 1:
        return _step(x_BTHP, w_BTH, a_BTH, B_BTGN, C_BTGN, s_BGNJ, documents)
    inputs = x_BTHP, w_BTH, a_BTH, B_BTGN, C_BTGN, s_BGNJ
    if by_triton(x_BTHP):
        from everlong.kernels.ssd_triton import ssd_triton

        y_BTHP, s_BGNJ, _ = ssd_triton(*(z.contiguous() for z in inputs), documents)
    else:
        y_BTHP, s_BGNJ, _ = _ssd(*inputs, documents)
    return y_BTHP, s_BGNJ


def by_triton(x: Tensor) -> bool:
    """Whether the kernels of `ssd_triton.py` compute what begins with `x`: in float32, on CUDA, where Triton is."""
    return TRITON and x.device.type == "cuda" and x.dtype == torch.float32


def _step(
    x_B1HP: Tensor, dt_B1H: Tensor, a_B1H: Tensor, B_B1GN: Tensor, C_B1GN: Tensor, s_BGNJ: Tensor, doc_B1: Tensor | None
) -> tuple[Tensor, Tensor]:
    """One position, by the recurrence itself."""
    (B, _, H, P), G = x_B1HP.shape, B_B1GN.shape[2]
    decay_BH = a_B1H[:, 0].exp() if doc_B1 is None else a_B1H[:, 0].exp() * (doc_B1 == 0)
    X_B1HP = x_B1HP * dt_B1H[..., None]
    if by_triton(x_B1HP) and not torch.is_grad_enabled():
        from everlong.kernels.ssd_triton import step_triton

        y_BHP, s_BGNJ = step_triton(X_B1HP[:, 0], decay_BH, B_B1GN[:, 0], C_B1GN[:, 0], s_BGNJ)
        return y_BHP[:, None], s_BGNJ
    X_BG1J = X_B1HP.view(B, G, 1, -1)
    s_BGNJ = s_BGNJ * decay_BH.view(B, G, 1, -1, 1).expand(-1, -1, -1, -1, P).flatten(-2)
    s_BGNJ = s_BGNJ + B_B1GN.transpose(1, 2).transpose(2, 3) @ X_BG1J
    return (C_B1GN.transpose(1, 2) @ s_BGNJ).view(B, 1, H, P), s_BGNJ


@torch.library.custom_op(
    "everlong::ssd",
    mutates_args=(),
    schema="(Tensor x, Tensor dt, Tensor a, Tensor B, Tensor C, Tensor state, Tensor? documents) "
    "-> (Tensor, Tensor, Tensor)",
)
def _ssd(
    x: Tensor, dt: Tensor, a: Tensor, B: Tensor, C: Tensor, state: Tensor, documents: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Outputs, the last state, and the state before every block."""
    check_documents(documents)
    whole, y, saved = [x, dt, a, B, C], x.new_empty(x.shape), []
    for start, length, chunk in blocks(x.shape[1]):
        saved.append(state)
        block = cut_block(whole, documents, start, length, chunk)
        met, after = states_of(block, state)
        output(block, met, y[:, start : start + length])
        state = after.clone()  # a view would keep the whole block
    return y, state, torch.stack(saved)


@_ssd.register_fake
def _(x, dt, a, B, C, state, documents):
    count = sum(1 for _ in blocks(x.shape[1]))
    return x.new_empty(x.shape), state.new_empty(state.shape), state.new_empty(count, *state.shape)


@torch.library.custom_op(
    "everlong::ssd_backward",
    mutates_args=(),
    schema="(Tensor gy, Tensor gstate, Tensor x, Tensor dt, Tensor a, Tensor B, Tensor C, Tensor y, Tensor saved, "
    "Tensor? documents) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
)
def _ssd_backward(
    gy: Tensor,
    gstate: Tensor,
    x: Tensor,
    dt: Tensor,
    a: Tensor,
    B: Tensor,
    C: Tensor,
    y: Tensor,
    saved: Tensor,
    documents: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    whole, grads = [x, dt, a, B, C], [z.new_empty(z.shape) for z in (x, dt, a, B, C)]
    gs = gstate
    for (start, length, chunk), state in reversed(list(zip(blocks(x.shape[1]), saved, strict=True))):
        at = slice(start, start + length)
        block = cut_block(whole, documents, start, length, chunk)
        parts, gs = gradients(block, *states_of(block, state), gy[:, at], y[:, at], gs)
        for grad, part in zip(grads, parts, strict=True):
            grad[:, at] = part
    return (*grads, gs if gs is not gstate else gs.clone())  # type: ignore[return-value]


@_ssd_backward.register_fake
def _(gy, gstate, x, dt, a, B, C, y, saved, documents):
    return tuple(z.new_empty(z.shape) for z in (x, dt, a, B, C, gstate))


def _setup_context(ctx, inputs, output) -> None:
    x, dt, a, B, C, _, documents = inputs
    y, _, saved = output
    ctx.mark_non_differentiable(saved)
    ctx.documents = documents is not None
    ctx.save_for_backward(x, dt, a, B, C, y, saved, *([] if documents is None else [documents]))


def _backward(ctx, gy, gstate, _gsaved):
    *tensors, documents = ctx.saved_tensors if ctx.documents else (*ctx.saved_tensors, None)
    return *_ssd_backward(gy.contiguous(), gstate.contiguous(), *tensors, documents), None


_ssd.register_autograd(_backward, setup_context=_setup_context)
