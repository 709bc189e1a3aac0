"""State-space duality on CUDA, by Triton: the recurrence of `ssd.py` in chunks, forward, backward, and one step.

Legend: B batch rows, T positions, H heads, P head size, G groups, N state size; c chunks of Q positions t and u; as
there, S_t = exp(a_t) S_{t-1} + B_t X_t^T, X = w x, y_t = C_t^T S_t. Numbers of places are 64-bit: rows may be long.

Forward: what every chunk adds to the state (`_outer`), the states before them one after the other (`_pass`), and the
outputs (`_output`). Backward: likewise, with the chunks from last to first. No exponent is above 0: the decay from u to
t is exp of a sum of its own. Documents are masked by their number. All is in float32.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from einops import rearrange
from torch import Tensor

from everlong.kernels.ssd_blocks import check_documents

CHUNK = 64  # positions of a chunk
PASS = 256  # numbers of a state that one program carries through the chunks
WARPS = 8  # of a program that holds several tiles at once
SMALLEST = 16  # of a side of a product on tensor cores
PRECISION = tl.constexpr("tf32x3")  # products of float32 on tensor cores, in three parts that keep its digits


@triton.jit
def _pairs(a, document, rows, h, H, Q: tl.constexpr):
    """exp of the decay from u to t, where t hears u; each sum is formed by itself, as a product with ones."""
    t, u = tl.arange(0, Q)[:, None], tl.arange(0, Q)[None]
    a_Q = tl.load(a + (rows + tl.arange(0, Q)) * H + h)
    ones = tl.where(t >= u, 1.0, 0.0).to(a_Q.dtype)
    sums = tl.dot(ones, tl.where(t > u, a_Q[:, None], 0.0), input_precision=PRECISION)
    own, other = tl.load(document + rows + t), tl.load(document + rows + u)
    return tl.where((t >= u) & (own == other), tl.exp(sums), 0.0)


@triton.jit
def _tile(x, rows, heads, h, size, Q: tl.constexpr, WIDTH: tl.constexpr):
    """The vectors of a head (or group) in a chunk, filled up with zeros."""
    at, column = rows + tl.arange(0, Q)[:, None], tl.arange(0, WIDTH)[None]
    return tl.load(x + (at * heads + h) * size + column, mask=column < size, other=0.0)


@triton.jit
def _put(x, value, rows, heads, h, size, Q: tl.constexpr, WIDTH: tl.constexpr):
    at, column = rows + tl.arange(0, Q)[:, None], tl.arange(0, WIDTH)[None]
    tl.store(x + (at * heads + h) * size + column, value, mask=column < size)


@triton.jit
def _outer(k, v, decay, out, H, G, N, P, Q: tl.constexpr, BN: tl.constexpr, BP: tl.constexpr):
    """Of every chunk and head: sum over its positions of decay k v^T."""
    chunk, h = tl.program_id(0).to(tl.int64), tl.program_id(1)
    rows, g = chunk * Q, h // (H // G)
    d_Q1 = tl.load(decay + (rows + tl.arange(0, Q)[:, None]) * H + h)
    k_QN, v_QP = _tile(k, rows, G, g, N, Q, BN) * d_Q1, _tile(v, rows, H, h, P, Q, BP)
    found = tl.dot(tl.trans(k_QN), v_QP, input_precision=PRECISION)
    n, p = tl.arange(0, BN)[:, None], tl.arange(0, BP)[None]
    tl.store(out + ((chunk * H + h) * N + n) * P + p, found, mask=(n < N) & (p < P))


@triton.jit
def _pass(added, decay, begin, out, end, chunks, H, size, first, step, BLOCK: tl.constexpr):
    """s, then s decay + added, and so on, over the chunks from the first on, forwards or backwards; `out` gets what s
    was before each, `end` what it is after all."""
    b, h = tl.program_id(0).to(tl.int64), tl.program_id(1)
    i = tl.program_id(2) * BLOCK + tl.arange(0, BLOCK)
    s = tl.load(begin + (b * H + h) * size + i, mask=i < size)
    for number in range(chunks):
        at = (b * chunks + first + step * number) * H + h
        tl.store(out + at * size + i, s, mask=i < size)
        s = s * tl.load(decay + at) + tl.load(added + at * size + i, mask=i < size)
    tl.store(end + (b * H + h) * size + i, s, mask=i < size)


@triton.jit
def _output(X, a, B, C, document, query, states, y, H, G, N, P, Q: tl.constexpr, BN: tl.constexpr, BP: tl.constexpr):
    """Of every chunk and head: what its positions hear of one another, and of the state before it."""
    chunk, h = tl.program_id(0).to(tl.int64), tl.program_id(1)
    rows, g = chunk * Q, h // (H // G)
    b_QN, c_QN = _tile(B, rows, G, g, N, Q, BN), _tile(C, rows, G, g, N, Q, BN)
    n, p = tl.arange(0, BN)[:, None], tl.arange(0, BP)[None]
    s_NP = tl.load(states + ((chunk * H + h) * N + n) * P + p, mask=(n < N) & (p < P), other=0.0)
    scores = tl.dot(c_QN, tl.trans(b_QN), input_precision=PRECISION) * _pairs(a, document, rows, h, H, Q)
    within = tl.dot(scores, _tile(X, rows, H, h, P, Q, BP), input_precision=PRECISION)
    q_Q1 = tl.load(query + (rows + tl.arange(0, Q)[:, None]) * H + h)
    _put(y, within + q_Q1 * tl.dot(c_QN, s_NP, input_precision=PRECISION), rows, H, h, P, Q, BP)


@triton.jit
def _gradients(
    X, a, B, C, document, query, key, states, gy, gs, gX, gB, gC,
    H, G, N, P, Q: tl.constexpr, BN: tl.constexpr, BP: tl.constexpr,
):  # fmt: skip
    """Of every chunk and head: gradients of X, and its share of those of B and C."""
    chunk, h = tl.program_id(0).to(tl.int64), tl.program_id(1)
    rows, g = chunk * Q, h // (H // G)
    b_QN, c_QN = _tile(B, rows, G, g, N, Q, BN), _tile(C, rows, G, g, N, Q, BN)
    x_QP, gy_QP = _tile(X, rows, H, h, P, Q, BP), _tile(gy, rows, H, h, P, Q, BP)
    n, p = tl.arange(0, BN)[:, None], tl.arange(0, BP)[None]
    at, inside = ((chunk * H + h) * N + n) * P + p, (n < N) & (p < P)
    s_NP, gs_NP = tl.load(states + at, mask=inside, other=0.0), tl.load(gs + at, mask=inside, other=0.0)
    one = rows + tl.arange(0, Q)[:, None]
    q_Q1, k_Q1 = tl.load(query + one * H + h), tl.load(key + one * H + h)
    pairs = _pairs(a, document, rows, h, H, Q)
    scores = tl.dot(c_QN, tl.trans(b_QN), input_precision=PRECISION) * pairs
    g_scores = tl.dot(gy_QP, tl.trans(x_QP), input_precision=PRECISION) * pairs
    found = tl.dot(tl.trans(scores), gy_QP, input_precision=PRECISION)
    _put(gX, found + k_Q1 * tl.dot(b_QN, gs_NP, input_precision=PRECISION), rows, H, h, P, Q, BP)
    found = tl.dot(tl.trans(g_scores), c_QN, input_precision=PRECISION)
    _put(gB, found + k_Q1 * tl.dot(x_QP, tl.trans(gs_NP), input_precision=PRECISION), rows, H, h, N, Q, BN)
    found = tl.dot(g_scores, b_QN, input_precision=PRECISION)
    _put(gC, found + q_Q1 * tl.dot(gy_QP, tl.trans(s_NP), input_precision=PRECISION), rows, H, h, N, Q, BN)


@triton.jit
def _step(X, decay, B, C, state, after, y, H, G, N, P, BN: tl.constexpr, BP: tl.constexpr):
    """One position of every row and head, by the recurrence itself."""
    b, h = tl.program_id(0).to(tl.int64), tl.program_id(1)
    head, group = b * H + h, b * G + h // (H // G)
    n, p = tl.arange(0, BN), tl.arange(0, BP)
    at, inside = (head * N + n[:, None]) * P + p[None], (n[:, None] < N) & (p[None] < P)
    b_N = tl.load(B + group * N + n, mask=n < N, other=0.0)
    c_N = tl.load(C + group * N + n, mask=n < N, other=0.0)
    x_P = tl.load(X + head * P + p, mask=p < P, other=0.0)
    s_NP = tl.load(state + at, mask=inside, other=0.0) * tl.load(decay + head) + b_N[:, None] * x_P[None]
    tl.store(after + at, s_NP, mask=inside)
    tl.store(y + head * P + p, tl.sum(c_N[:, None] * s_NP, axis=0), mask=p < P)


def _launch(kernel: Any, grid: tuple[int, ...], *inputs: Tensor | int, **sizes: int) -> None:
    """Runs a kernel for every place of a grid; its own type knows nothing of how it is called."""
    kernel[grid](*inputs, **sizes)


def _power(size: int) -> int:
    """The least power of two that is no less; tiles have such sides."""
    return 1 << (size - 1).bit_length()


class _Chunks:
    """The inputs of a call, filled up to whole chunks, with what decays and documents make of them."""

    def __init__(self, x: Tensor, w: Tensor, a: Tensor, B: Tensor, C: Tensor, documents: Tensor | None) -> None:
        (self.rows, self.T, self.H, self.P), (self.G, self.N) = x.shape, B.shape[2:]
        self.count = -(-self.T // CHUNK)
        self.X, self.a, self.B, self.C = self.fill(x * w[..., None]), self.fill(a), self.fill(B), self.fill(C)
        number = torch.zeros_like(x[:, :, 0, 0], dtype=torch.int64) if documents is None else documents
        rest = self.count * CHUNK - self.T
        self.document = torch.cat([number, number[:, -1:].expand(-1, rest)], dim=1).contiguous()
        a_BCQH, own_BCQ = (z.unflatten(1, (self.count, CHUNK)) for z in (self.a, self.document))
        last_BC = own_BCQ[:, :, -1]
        before_BC = F.pad(last_BC[:, :-1], (1, 0))
        later_BCQH = F.pad(a_BCQH[:, :, 1:], (0, 0, 0, 1)).flip(2).cumsum(2).flip(2)
        sums_BCQH = a_BCQH.cumsum(2)
        self.query = (sums_BCQH.exp() * (own_BCQ == before_BC[..., None])[..., None]).contiguous()
        self.key = (later_BCQH.exp() * (own_BCQ == last_BC[..., None])[..., None]).contiguous()
        self.chunk = (sums_BCQH[:, :, -1].exp() * (before_BC == last_BC)[..., None]).contiguous()
        self.grid = (self.rows * self.count, self.H)
        self.sizes = {"H": self.H, "G": self.G, "N": self.N, "P": self.P, "Q": CHUNK}
        self.sizes |= {"BN": max(SMALLEST, _power(self.N)), "BP": max(SMALLEST, _power(self.P))}

    def fill(self, x: Tensor) -> Tensor:
        """Whole chunks; what is added is 0."""
        rest = self.count * CHUNK - self.T
        return F.pad(x, (0, 0) * (x.ndim - 2) + (0, rest)).contiguous()

    def empty(self, *shape: int) -> Tensor:
        return self.X.new_empty(shape)

    def outer(self, k: Tensor, v: Tensor, decay: Tensor) -> Tensor:
        out = self.empty(self.rows, self.count, self.H, self.N, self.P)
        _launch(_outer, self.grid, k, v, decay, out, **self.sizes)
        return out

    def carried(self, added: Tensor, begin: Tensor, *, backwards: bool) -> tuple[Tensor, Tensor]:
        """The state on each chunk's nearer side, and behind the farthest."""
        out, end, size = torch.empty_like(added), torch.empty_like(begin), self.N * self.P
        first, step = (self.count - 1, -1) if backwards else (0, 1)
        grid = (self.rows, self.H, -(-size // PASS))
        _launch(_pass, grid, added, self.chunk, begin, out, end, self.count, self.H, size, first, step, BLOCK=PASS)
        return out, end


def _by_head(s_BGNJ: Tensor, H: int) -> Tensor:
    return rearrange(s_BGNJ, "b g n (r p) -> b (g r) n p", r=H // s_BGNJ.shape[1]).contiguous()


def _by_group(s_BHNP: Tensor, G: int) -> Tensor:
    return rearrange(s_BHNP, "b (g r) n p -> b g n (r p)", g=G).contiguous()


@torch.library.custom_op(
    "everlong::ssd_triton",
    mutates_args=(),
    schema="(Tensor x, Tensor w, Tensor a, Tensor B, Tensor C, Tensor state, Tensor? documents) "
    "-> (Tensor, Tensor, Tensor)",
)
def ssd_triton(
    x: Tensor, w: Tensor, a: Tensor, B: Tensor, C: Tensor, state: Tensor, documents: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Outputs, the last state, and the state before every chunk, by head; as `ssd.py`'s own operator."""
    check_documents(documents)
    chunks = _Chunks(x, w, a, B, C, documents)
    added = chunks.outer(chunks.B, chunks.X, chunks.key)
    states, end = chunks.carried(added, _by_head(state, chunks.H), backwards=False)
    y = torch.empty_like(chunks.X)
    inputs = chunks.X, chunks.a, chunks.B, chunks.C, chunks.document, chunks.query
    _launch(_output, chunks.grid, *inputs, states, y, **chunks.sizes, num_warps=WARPS)
    return y[:, : chunks.T].contiguous(), _by_group(end, chunks.G), states


@ssd_triton.register_fake
def _(x, w, a, B, C, state, documents):
    states = x.new_empty(len(x), -(-x.shape[1] // CHUNK), x.shape[2], B.shape[3], x.shape[3])
    return torch.empty_like(x), torch.empty_like(state), states


@torch.library.custom_op(
    "everlong::ssd_triton_backward",
    mutates_args=(),
    schema="(Tensor gy, Tensor gstate, Tensor x, Tensor w, Tensor a, Tensor B, Tensor C, Tensor y, Tensor state, "
    "Tensor states, Tensor? documents) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
)
def _ssd_triton_backward(
    gy: Tensor,
    gstate: Tensor,
    x: Tensor,
    w: Tensor,
    a: Tensor,
    B: Tensor,
    C: Tensor,
    y: Tensor,
    state: Tensor,
    states: Tensor,
    documents: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    chunks = _Chunks(x, w, a, B, C, documents)
    g = chunks.fill(gy)
    gs, gbegin = chunks.carried(chunks.outer(chunks.C, g, chunks.query), _by_head(gstate, chunks.H), backwards=True)
    gX, gB, gC = torch.empty_like(chunks.X), *(chunks.empty(*chunks.a.shape, chunks.N) for _ in range(2))
    inputs = chunks.X, chunks.a, chunks.B, chunks.C, chunks.document, chunks.query, chunks.key, states, g, gs
    _launch(_gradients, chunks.grid, *inputs, gX, gB, gC, **chunks.sizes, num_warps=WARPS)
    gX, gB, gC = (z[:, : chunks.T] for z in (gX, gB, gC))
    ends = torch.cat([states[:, 1:], _by_head(state, chunks.H)[:, None]], dim=1)
    gw = (gX * x).sum(-1)
    g_sum = chunks.fill((gy * y).sum(-1) - gw * w).unflatten(1, (chunks.count, CHUNK))
    g_sum[:, :, -1] += (gs * ends).sum((-1, -2))
    ga = g_sum.flip(2).cumsum(2).flip(2).flatten(1, 2)[:, : chunks.T].contiguous()
    gB, gC = (z.unflatten(2, (chunks.G, -1)).sum(3) for z in (gB, gC))
    return gX * w[..., None], gw, ga, gB, gC, _by_group(gbegin, chunks.G)


@_ssd_triton_backward.register_fake
def _(gy, gstate, x, w, a, B, C, y, state, states, documents):
    return tuple(torch.empty_like(z) for z in (x, w, a, B, C, gstate))


def _setup_context(ctx, inputs, output) -> None:
    *tensors, _, documents = inputs
    y, state, states = output
    ctx.mark_non_differentiable(states)
    ctx.documents = documents is not None
    ctx.save_for_backward(*tensors, y, state, states, *([] if documents is None else [documents]))


def _backward(ctx, gy, gstate, _gstates):
    *tensors, documents = ctx.saved_tensors if ctx.documents else (*ctx.saved_tensors, None)
    return *_ssd_triton_backward(gy.contiguous(), gstate.contiguous(), *tensors, documents), None


ssd_triton.register_autograd(_backward, setup_context=_setup_context)


def step_triton(X_BHP: Tensor, decay_BH: Tensor, B_BGN: Tensor, C_BGN: Tensor, s_BGNJ: Tensor) -> tuple[Tensor, Tensor]:
    """One position without gradients: y (B, H, P) and the state after it."""
    (rows, H, P), (G, N) = X_BHP.shape, B_BGN.shape[1:]
    state = _by_head(s_BGNJ, H)
    y, after = torch.empty_like(X_BHP, memory_format=torch.contiguous_format), torch.empty_like(state)
    sizes = {"BN": _power(N), "BP": _power(P)}
    inputs = [z.contiguous() for z in (X_BHP, decay_BH, B_BGN, C_BGN)]
    _launch(_step, (rows, H), *inputs, state, after, y, H, G, N, P, **sizes)
    return y, _by_group(after, G)
