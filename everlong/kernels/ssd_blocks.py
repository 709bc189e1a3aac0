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
    """exp(s_t - s_u) in pieces. Of a factored chunk, `pair` is `None`: it is query times key, and a state is held as
    the queries of its chunk meet it, times exp(m), with m the sum at the chunk's middle."""

    query: Tensor  # b c g q r, what the query takes of the state that it meets
    key: Tensor  # b c g q r, what the key gives to the state
    before: Tensor | None  # b c g r, by which the state is multiplied before the queries meet it; None: 1
    kept: Tensor | None  # b c 1 1 or b c g r, what is kept of it when the keys are added; None: 1
    after: Tensor | None  # b c g r, by which this sum is multiplied; None: 1
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
        decay = decay._replace(kept=masks.whole if decay.kept is None else decay.kept * masks.whole)
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
    middle = s[:, :, :, (s.shape[3] - 1) // 2, None]
    rest = s - middle
    if not rest.abs().max() <= LIMIT:
        return None
    return Decay(rest.exp(), (-rest).exp(), middle[:, :, :, 0].exp(), None, rest[:, :, :, -1].exp(), None)


def _pairwise(a: Tensor) -> Decay:
    """Decays pair by pair, each summed on its own: no exponent is above 0, and none is a difference of large sums."""
    s, Q = a.cumsum(3), a.shape[3]
    earlier = torch.ones(Q, Q, dtype=torch.bool, device=a.device).tril()
    steps = a.transpose(-1, -2)[..., None].expand(*a.shape[:3], a.shape[4], Q, Q).masked_fill(~earlier.tril(-1), 0)
    pair = steps.cumsum(-2).masked_fill_(~earlier, -torch.inf).exp_()
    return Decay(s.exp(), pair[..., -1, :].transpose(-1, -2), None, s[:, :, :, -1].exp(), None, pair)


def _masks(documents: Tensor, at: slice, chunk: int) -> Masks:
    own = rearrange(documents[:, at], "b (c q) -> b c 1 q", q=chunk)
    first = documents.new_zeros(len(documents), 1) if at.start == 0 else documents[:, at.start - 1, None]
    last = own[:, :, 0, -1]
    before = torch.cat([first, last[:, :-1]], dim=1)[:, :, None, None]
    last = last[:, :, None, None]
    return Masks(
        own[..., :, None] == own[..., None, :], (own == before)[..., None], (own == last)[..., None], before == last
    )


def _by_head(states: Tensor, factor: Tensor | None, c: int, out: Tensor) -> Tensor:
    """States (b g n j) times the factor that each head has in chunk c, written to `out`."""
    if factor is None:
        return out.copy_(states)
    R = factor.shape[-1]
    torch.mul(states.unflatten(-1, (R, -1)), factor[:, c, :, None, :, None], out=out.unflatten(-1, (R, -1)))
    return out


def _add_kept(decay: Decay, c: int, out: Tensor, state: Tensor) -> Tensor:
    """Adds to `out` what chunk c keeps of a state."""
    if decay.kept is None:
        return out.add_(state)
    R = decay.query.shape[-1]
    kept = decay.kept[:, c, :, None, :, None]
    out.unflatten(-1, (R, -1)).addcmul_(state.unflatten(-1, (R, -1)), kept)
    return out


def states_of(block: Block, s_BGNJ: Tensor) -> tuple[Tensor, Tensor]:
    """The states as the queries of every chunk meet them, b c g n j, and the state after the last, b g n j. Two factors
    make what is met of what was added, one after the other: their product may be too small for a number."""
    decay, added = block.decay, block.key.transpose(-1, -2) @ block.values
    met, state = torch.empty_like(added), s_BGNJ
    for c, new in enumerate(added.unbind(1)):
        _by_head(state, decay.before, c, out=met[:, c])
        state = _by_head(_add_kept(decay, c, new, met[:, c]), decay.after, c, out=new)
    return met, state


def output(block: Block, met: Tensor, y: Tensor) -> None:
    """Writes Y of a block into y, b t h p."""
    decay, (_, _, G, Q, R) = block.decay, block.decay.query.shape
    y = rearrange(y, "b (c q) (g r) p -> b c g q r p", q=Q, g=G)
    carried = block.query @ met
    if decay.pair is None:
        torch.mul(_plus(carried, block.scores, block.values).unflatten(-1, (R, -1)), decay.query[..., None], out=y)
        return
    X = block.inputs.x * block.inputs.dt[..., None]
    within = torch.einsum("bcgqk,bcgrqk,bcgkrp->bcgqrp", block.scores, decay.pair, X)
    torch.addcmul(within, carried.unflatten(-1, (R, -1)), decay.query[..., None], out=y)


def gradients(
    block: Block, met: Tensor, s_after: Tensor, gy: Tensor, y: Tensor, gs: Tensor
) -> tuple[tuple[Tensor, ...], Tensor]:
    """Gradients of a block's x, dt, a, B and C, as they lie in the stream, and of the state before it.

    Args:
        met, s_after: what `states_of` gave.
        gy: gradient of the outputs, b t h p.
        y: the outputs.
        gs: gradient of the state after the block.
    """
    x, dt, _, B, C = block.inputs
    gy, y = (rearrange(z, "b (c q) (g r) p -> b c g q r p", q=x.shape[3], g=x.shape[2]) for z in (gy, y))
    gz = (gy * block.decay.query[..., None]).flatten(-2)
    g_added, g_before = _states_backward(block, block.query.transpose(-1, -2) @ gz, gs)
    gX, g_scores, by_key = _values_backward(block, gy, gz, block.key @ g_added)
    gC, gB = gz @ met.transpose(-1, -2), block.values @ g_added.transpose(-1, -2)
    if block.masks is not None:
        g_scores, gC, gB = g_scores * block.masks.pair, gC * block.masks.carried, gB * block.masks.kept
    g_dt = (gX * x).sum(-1) * by_key
    ends = _at_ends(block, met, s_after, g_added, gs)
    g_sum = rearrange((gy * y).sum(-1) - g_dt * dt, "b (e c) g q r -> b e (c q) g r", e=ends.shape[1])
    g_sum[:, :, -1] += ends
    g_a = rearrange(g_sum.flip(2).cumsum(2).flip(2), "b e q g r -> b (e q) (g r)")
    gB, gC = _plus(gB, g_scores.transpose(-1, -2), C), _plus(gC, g_scores, B)
    groups = (rearrange(g, "b c g q n -> b (c q) g n") for g in (gB, gC))
    g_x = rearrange(gX * (dt * by_key)[..., None], "b c g q r p -> b (c q) (g r) p")
    return (g_x, rearrange(g_dt, "b c g q r -> b (c q) (g r)"), g_a, *groups), g_before


def _values_backward(block: Block, gy: Tensor, gz: Tensor, g_values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The gradient of X = dt x in two factors, the second one number a head, and that of the scores, between them.

    Args:
        gy: gradient of the outputs, b c g q r p.
        gz: the same times the query's decay, b c g q j.
        g_values: gradient that the values have through the states, b c g q j.
    """
    pair, by_key = block.decay.pair, block.decay.key
    if pair is None:
        g_values = _plus(g_values, block.scores.transpose(-1, -2), gz)
        return g_values.unflatten(-1, gy.shape[-2:]), (gz @ block.values.transpose(-1, -2)).tril_(), by_key
    X = block.inputs.x * block.inputs.dt[..., None]
    g_scores = (torch.einsum("bcgqrp,bcgkrp->bcgrqk", gy, X) * pair).sum(3)
    gX = torch.einsum("bcgqk,bcgrqk,bcgqrp->bcgkrp", block.scores, pair, gy)
    gX = torch.addcmul(gX, g_values.unflatten(-1, gy.shape[-2:]), by_key[..., None])
    return gX, g_scores, torch.ones_like(by_key)


def _at_ends(block: Block, met: Tensor, s_after: Tensor, g_added: Tensor, gs: Tensor) -> Tensor:
    """<gS', S'> of every head, b e g r: after the whole block (e = 1); if pairwise, after each chunk (e = c), since
    under fast decays little is left of long sums."""
    if block.decay.pair is None:
        product = (gs * s_after)[:, None]
    else:
        product = g_added * torch.cat([met[:, 1:], s_after[:, None]], dim=1)
    return product.unflatten(-1, (block.inputs.x.shape[4], -1)).sum((3, 5))


def _states_backward(block: Block, g_met: Tensor, gs: Tensor) -> tuple[Tensor, Tensor]:
    """The gradient of what every chunk adds to the state, b c g n j, and of the state before the block.

    Args:
        g_met: gradient that the queries give to the states that they meet, b c g n j; it is written over.
        gs: gradient of the state after the block.
    """
    decay, g_added = block.decay, torch.empty_like(g_met)
    for c in reversed(range(g_met.shape[1])):
        _by_head(gs, decay.after, c, out=g_added[:, c])
        total = _add_kept(decay, c, g_met[:, c], g_added[:, c])
        gs = _by_head(total, decay.before, c, out=torch.empty_like(gs))
    return g_added, gs


def _plus(base: Tensor, one: Tensor, other: Tensor) -> Tensor:
    """base + one @ other, written over base."""
    flat = base.flatten(0, -3)
    return flat.baddbmm_(one.flatten(0, -3), other.flatten(0, -3)).view_as(base)
