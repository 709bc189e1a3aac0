"""The blocks of state-space duality: their products forward and backward, factored or pairwise; see `ssd.py`.

Legend: as there. Shapes of a block stand beside the fields: b batch rows, c chunks, g groups, q queries and k keys of a
chunk, r heads of a group, p head size, n state size, j = r p.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor

from everlong.core.errors import ContextError

CHUNK = 64  # positions of a factored chunk: the fastest of 16 .. 256 on a CPU
PAIRWISE = 16  # positions of a pairwise chunk: short, since its work and the rounding of its sums grow with it
BLOCK = 512  # positions whose chunks are held at once; the state is kept once a block
LIMIT = 60.0  # largest exponent of a factor: exp(60) leaves twelve decades of float32 to sums and gradients


class Inputs(NamedTuple):
    """The inputs of a block, by chunk and group."""

    x: Tensor  # b c g q r p
    dt: Tensor  # b c g q r
    a: Tensor  # b c g q r
    B: Tensor  # b c g q n
    C: Tensor  # b c g q n


class Masks(NamedTuple):
    """What documents let through: within a chunk, from the state in, into the state, and from state to state."""

    pair: Tensor  # b c 1 q q
    carried: Tensor  # b c 1 q 1
    kept: Tensor  # b c 1 q 1
    whole: Tensor  # b c 1 1


class Decay(NamedTuple):
    """exp(s_t - s_u) in pieces. Of a factored chunk, `pair` is `None`: it is query times key."""

    query: Tensor  # b c g q r, what the query takes of the state
    key: Tensor  # b c g q r, what the key gives to the state
    before: Tensor | None  # b c g r, by which the state is multiplied before the queries meet it; None: 1
    after: Tensor | None  # b c g r, by which the sum of the keys is multiplied; None: 1
    chunk: Tensor  # b c g r, over the whole chunk
    pair: Tensor | None  # b c g r q q


class Block(NamedTuple):
    """One block, ready for products; `scores` are C B^T of the pairs that are causal and of one document."""

    inputs: Inputs
    masks: Masks | None
    decay: Decay
    scores: Tensor  # b c g q q
    key: Tensor  # b c g q n, B as the state gets it
    query: Tensor  # b c g q n, C as it meets the state
    values: Tensor  # b c g q j, X times the key's decay


def check_documents(documents: Tensor | None) -> None:
    """Raises ContextError if documents go backwards."""
    if documents is not None and bool((documents.diff(dim=1, prepend=torch.zeros_like(documents[:, :1])) < 0).any()):
        raise ContextError("documents", "falling numbers", "must not fall along a row, nor begin below 0")


def blocks(T: int) -> Iterator[tuple[int, int, int]]:
    """Start, length, and chunk length of every block; what fills no chunk is one shorter chunk."""
    whole = T - T % CHUNK
    for start in range(0, whole, BLOCK):
        yield start, min(BLOCK, whole - start), CHUNK
    if whole < T:
        yield whole, T - whole, T - whole


def cut_block(whole: Sequence[Tensor], documents: Tensor | None, start: int, length: int, chunk: int) -> Block:
    """Cuts a block out of the inputs, and takes it factored if its decays allow it."""
    groups = whole[3].shape[2]
    at = slice(start, start + length)
    inputs = _cut(whole, at, chunk, groups)
    decay = _factored(inputs.a.cumsum(3))
    if decay is None:
        chunk = PAIRWISE if length % PAIRWISE == 0 else chunk
        inputs = _cut(whole, at, chunk, groups)
        decay = _pairwise(inputs.a)
    masks = None if documents is None else _masks(documents, at, chunk)
    scores = (inputs.C @ inputs.B.transpose(-1, -2)).tril_()
    key, query = inputs.B, inputs.C
    if masks is not None:
        scores, key, query = scores * masks.pair, key * masks.kept, query * masks.carried
        decay = decay._replace(chunk=decay.chunk * masks.whole)
    values = (inputs.x * (inputs.dt * decay.key)[..., None]).flatten(-2)
    return Block(inputs, masks, decay, scores, key, query, values)


def _cut(whole: Sequence[Tensor], at: slice, chunk: int, groups: int) -> Inputs:
    x, dt, a, B, C = (z[:, at] for z in whole)
    return Inputs(
        rearrange(x, "b (c q) (g r) p -> b c g q r p", q=chunk, g=groups),
        *(rearrange(z, "b (c q) (g r) -> b c g q r", q=chunk, g=groups) for z in (dt, a)),
        *(rearrange(z, "b (c q) g n -> b c g q n", q=chunk) for z in (B, C)),
    )


def _factored(s: Tensor) -> Decay | None:
    """Decays as products around the middle of a chunk; `None` if a factor could leave the range of numbers."""
    middle, last = s[:, :, :, (s.shape[3] - 1) // 2, None], s[:, :, :, -1]
    rest = s - middle
    if not rest.abs().max() <= LIMIT:
        return None
    return Decay(rest.exp(), (-rest).exp(), middle[:, :, :, 0].exp(), rest[:, :, :, -1].exp(), last.exp(), None)


def _pairwise(a: Tensor) -> Decay:
    """Decays pair by pair, each summed on its own: no exponent is above 0, and none is a difference of large sums."""
    s, Q = a.cumsum(3), a.shape[3]
    earlier = torch.ones(Q, Q, dtype=torch.bool, device=a.device).tril()
    steps = a.transpose(-1, -2)[..., None].expand(*a.shape[:3], a.shape[4], Q, Q).masked_fill(~earlier.tril(-1), 0)
    pair = steps.cumsum(-2).masked_fill_(~earlier, -torch.inf).exp_()
    return Decay(s.exp(), pair[..., -1, :].transpose(-1, -2), None, None, s[:, :, :, -1].exp(), pair)


def _masks(documents: Tensor, at: slice, chunk: int) -> Masks:
    own = rearrange(documents[:, at], "b (c q) -> b c 1 q", q=chunk)
    first = documents.new_zeros(len(documents), 1) if at.start == 0 else documents[:, at.start - 1, None]
    last = own[:, :, 0, -1]
    before = torch.cat([first, last[:, :-1]], dim=1)[:, :, None, None]
    last = last[:, :, None, None]
    return Masks(
        own[..., :, None] == own[..., None, :], (own == before)[..., None], (own == last)[..., None], before == last
    )


def _by_head(factor: Tensor, x: Tensor) -> Tensor:
    """x (b c g n j) times a factor of each head (b c g r)."""
    R = factor.shape[-1]
    return (x.unflatten(-1, (R, -1)) * factor[:, :, :, None, :, None]).flatten(-2)


def states_of(block: Block, s_BGNJ: Tensor) -> Tensor:
    """The state before every chunk, and after the last: b (c + 1) g n j."""
    added = block.key.transpose(-1, -2) @ block.values
    added = added if block.decay.after is None else _by_head(block.decay.after, added)
    chunks, R = added.shape[1], block.decay.chunk.shape[-1]
    states = added.new_empty(added.shape[0], chunks + 1, *added.shape[2:])
    states[:, 0] = s_BGNJ
    by_head = states.unflatten(-1, (R, -1))
    for c, (new, decay) in enumerate(
        zip(added.unflatten(-1, (R, -1)).unbind(1), block.decay.chunk.unbind(1), strict=True)
    ):
        torch.addcmul(new, by_head[:, c], decay[:, :, None, :, None], out=by_head[:, c + 1])
    return states


def _met(block: Block, states: Tensor) -> Tensor:
    """The states as the queries meet them."""
    before = states[:, :-1]
    return before if block.decay.before is None else _by_head(block.decay.before, before)


def output(block: Block, states: Tensor) -> Tensor:
    """Y of a block, b c g q r p."""
    R, decay = block.decay.chunk.shape[-1], block.decay
    carried = block.query @ _met(block, states)
    if decay.pair is None:
        return (carried + block.scores @ block.values).unflatten(-1, (R, -1)) * decay.query[..., None]
    X = block.inputs.x * block.inputs.dt[..., None]
    within = torch.einsum("bcgqk,bcgrqk,bcgkrp->bcgqrp", block.scores, decay.pair, X)
    return torch.addcmul(within, carried.unflatten(-1, (R, -1)), decay.query[..., None])


def gradients(block: Block, states: Tensor, gy: Tensor, y: Tensor, gs: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
    """Gradients of a block's x, dt, a, B and C, as they lie in the stream, and of the state before it.

    Args:
        states: what `states_of` gave.
        gy: gradient of the outputs, b t h p.
        y: the outputs.
        gs: gradient of the state after the block.
    """
    x, dt, _, B, C = block.inputs
    gy, y = (rearrange(z, "b (c q) (g r) p -> b c g q r p", q=x.shape[3], g=x.shape[2]) for z in (gy, y))
    gz = (gy * block.decay.query[..., None]).flatten(-2)
    gs_after, gs = _states_backward(block, block.query.transpose(-1, -2) @ gz, gs)
    g_added = gs_after if block.decay.after is None else _by_head(block.decay.after, gs_after)
    gX, g_scores = _values_backward(block, gy, gz, block.key @ g_added)
    gC, gB = gz @ _met(block, states).transpose(-1, -2), block.values @ g_added.transpose(-1, -2)
    if block.masks is not None:
        g_scores, gC, gB = g_scores * block.masks.pair, gC * block.masks.carried, gB * block.masks.kept
    g_dt = (gX * x).sum(-1)
    g_sum = (gy * y).sum(-1) - g_dt * dt
    g_sum[:, :, :, -1] += (gs_after * states[:, 1:]).unflatten(-1, (x.shape[4], -1)).sum((3, 5))
    g_a = g_sum.flip(3).cumsum(3).flip(3)
    gB, gC = gB + g_scores.transpose(-1, -2) @ C, gC + g_scores @ B
    heads = (rearrange(g, "b c g q r -> b (c q) (g r)") for g in (g_dt, g_a))
    groups = (rearrange(g, "b c g q n -> b (c q) g n") for g in (gB, gC))
    return (rearrange(gX * dt[..., None], "b c g q r p -> b (c q) (g r) p"), *heads, *groups), gs


def _values_backward(block: Block, gy: Tensor, gz: Tensor, g_values: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of X = dt x, and of the scores, whose later pairs are 0.

    Args:
        gy: gradient of the outputs, b c g q r p.
        gz: the same times the query's decay, b c g q j.
        g_values: gradient that the values have through the states, b c g q j.
    """
    pair, by_key = block.decay.pair, block.decay.key[..., None]
    if pair is None:
        g_values = g_values + block.scores.transpose(-1, -2) @ gz
        return g_values.unflatten(-1, gy.shape[-2:]) * by_key, (gz @ block.values.transpose(-1, -2)).tril_()
    X = block.inputs.x * block.inputs.dt[..., None]
    g_scores = (torch.einsum("bcgqrp,bcgkrp->bcgrqk", gy, X) * pair).sum(3)
    gX = torch.einsum("bcgqk,bcgrqk,bcgqrp->bcgkrp", block.scores, pair, gy)
    return torch.addcmul(gX, g_values.unflatten(-1, gy.shape[-2:]), by_key), g_scores


def _states_backward(block: Block, g_met: Tensor, gs: Tensor) -> tuple[Tensor, Tensor]:
    """The gradient of the state after every chunk, b c g n j, and of that before the first."""
    g_before = g_met if block.decay.before is None else _by_head(block.decay.before, g_met)
    R, after = block.decay.chunk.shape[-1], torch.empty_like(g_before)
    by_head, new = after.unflatten(-1, (R, -1)), g_before.unflatten(-1, (R, -1))
    gs = gs.unflatten(-1, (R, -1))
    for c in reversed(range(after.shape[1])):
        by_head[:, c] = gs
        gs = torch.addcmul(new[:, c], gs, block.decay.chunk[:, c, :, None, :, None])
    return after, gs.flatten(-2)
