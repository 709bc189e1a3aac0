"""Dilated attention (Ding et al. 2023, LongNet, arXiv 2307.02486, eq. 3-15).

Legend: B batch rows, T new positions, S joined places (cached entries, then new positions), H query heads, G
key/value heads, E (or D) head size.

Branch (w, r) cuts the document into segments of w positions; of each segment, head j keeps the rows with
(t mod w) mod r = j mod r, queries and keys alike, and attends within them. The branches are mixed by their softmax
denominators, which is one softmax over the multiset union of their keys: with C[j, t, s] the number of branches in
which head j lets t see s <= t,

    P[j, t, s] = C[j, t, s] exp(q_t k_s / sqrt(E)) / sum_s' C[j, t, s'] exp(q_t k_s' / sqrt(E)),   o = P V.

So the exact gradient runs through the mixture weights too. A query that no branch of its head keeps gets 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from everlong.core.accounting import linear_flops
from everlong.core.config import check
from everlong.core.errors import ConfigError, ContextError
from everlong.core.span import Span
from everlong.core.state import State
from everlong.kernels.attention import attend
from everlong.kernels.pieces import Pieces
from everlong.sequence.attention import Attention
from everlong.sequence.cache import KeyValues, Ragged, join
from everlong.sequence.dilated_geometry import Geometry, Stretch
from everlong.sequence.dilated_look_back import LookBack
from everlong.sequence.dilated_sinks import Sinks
from everlong.sequence.dilation import branches
from everlong.sequence.position import XPos


def dilated_attention(
    q_BTHD: Float[Tensor, "b t h d"],
    k_BTGD: Float[Tensor, "b t g d"],
    v_BTGD: Float[Tensor, "b t g d"],
    segment_lengths: Sequence[int],
    dilations: Sequence[int],
    *,
    causal: bool = True,
    scale: float | None = None,
) -> Float[Tensor, "b t h d"]:
    """Dilated attention of whole rows to themselves, with exact gradients; no branch is copied or made dense.

    Args:
        segment_lengths: w of every branch, growing; one beyond T acts as T.
        dilations: r of every branch, growing.
        causal: whether keys after the query are hidden.
        scale: factor of the scores; 1/sqrt(D) if `None`.

    Raises:
        ConfigError: an impossible schedule, or heads or head sizes that do not fit each other.
        ContextError: no positions.
    """
    (B, T, H, D), G = q_BTHD.shape, k_BTGD.shape[2]
    if T == 0:
        raise ContextError("q_BTHD", tuple(q_BTHD.shape), "must hold at least one position")
    if k_BTGD.shape != v_BTGD.shape or k_BTGD.shape != (B, T, G, D) or D == 0:
        found = f"keys {tuple(k_BTGD.shape)}, values {tuple(v_BTGD.shape)}"
        raise ConfigError(
            "k_BTGD, v_BTGD", found, f"must both be ({B}, {T}, heads, {D}), as the queries, and D above 0"
        )
    if G == 0 or H % G:
        raise ConfigError("kv_heads", G, f"must divide the number of query heads, {H}")
    check(scale is None or scale > 0, "scale", scale, "must be above 0, or None for 1/sqrt(D)")
    geometry = Geometry(branches(segment_lengths, dilations), H, G)
    pieces = geometry.pieces(Stretch(B, 0, T, 0, T, 0, T), causal)
    return attend(q_BTHD, k_BTGD, v_BTGD, pieces, scale=scale)


class DilatedKeyValues(State):
    """The kept keys and values of the segments that every row is in, branch by branch (`Geometry.blocks`)."""

    k_BSGD: Float[Tensor, "b s g d"]
    v_BSGD: Float[Tensor, "b s g d"]
    seen_BT0: Bool[Tensor, "b t 0"] | None
    """Positions of the document so far, as the size of a tensor without elements: how far a stream has come decides
    which rows are kept, and a size is known without looking into a tensor. `None` where rows differ."""
    length_B: Int64[Tensor, " b"] | None = None
    """Positions of the document so far where rows differ."""

    @property
    def seen(self) -> list[int]:
        """Positions of the document so far, of every row."""
        if self.seen_BT0 is not None:
            return [self.seen_BT0.shape[1]] * self.seen_BT0.shape[0]
        assert self.length_B is not None
        return self.length_B.tolist()


class DilatedAttention(Attention):
    """Dilated attention. State: of every branch, the kept rows of the current segment, at most w/r a head; with
    look-back those of the segment before too, and sinks."""

    class Config(Attention.Config):
        segment_lengths: tuple[int, ...]
        """w of every branch, growing."""
        dilations: tuple[int, ...]
        """r of every branch, growing."""
        rotation: int = 0
        """Added to a head's number before its offset is taken; 0 in the paper. Layers that differ in it keep different
        rows."""
        look_back: bool = False
        """Whether queries also see the segment before their own; not in the paper."""
        sinks: int = 0
        """First positions of the document that every query sees once more; 0 in the paper."""

    def __init__(self, config: DilatedAttention.Config) -> None:
        super().__init__(config)
        schedule = branches(config.segment_lengths, config.dilations)
        remedy = "must begin with 1, or some positions see nothing, not even themselves"
        check(schedule[0].dilation == 1, "dilations", config.dilations, remedy)
        check(config.rotation >= 0, "rotation", config.rotation, "must be 0 or more")
        check(config.sinks >= 0, "sinks", config.sinks, "must be 0 or more")
        geometry = Geometry(schedule, self.heads, self.kv_heads, config.rotation)
        geometry = LookBack(geometry) if config.look_back else geometry
        self.geometry = Sinks(geometry, config.sinks) if config.sinks else geometry

    def attend_plain(
        self, q_BTHE: Tensor, k_BTGE: Tensor, v_BTGE: Tensor, span: Span, state: DilatedKeyValues | None
    ) -> tuple[Tensor, DilatedKeyValues]:
        B, T = q_BTHE.shape[:2]
        before = 0 if state is None else state.seen[0]
        k_BSGE, v_BSGE = _join(state, k_BTGE, v_BTGE)
        S, device = k_BSGE.shape[1], k_BTGE.device
        stretch = Stretch(B, before, T, 0, T, S - T, S)
        o_BTHE = self.meet_at(q_BTHE, k_BSGE, v_BSGE, self.geometry.pieces(stretch), [before] * B)
        source_1SG = self.geometry.sources(before, before + T, S - T - before, device)[None]
        seen_BT0 = torch.empty(B, before + T, 0, dtype=torch.bool, device=device)
        source_BSG = source_1SG.expand(B, -1, -1)
        return o_BTHE, DilatedKeyValues(_take(k_BSGE, source_BSG), _take(v_BSGE, source_BSG), seen_BT0)

    def attend_ragged(
        self, q_BTHE: Tensor, k_BTGE: Tensor, v_BTGE: Tensor, span: Span, state: DilatedKeyValues | None
    ) -> tuple[Tensor, DilatedKeyValues]:
        """Document by document, each at the cost that it has alone, and all in one call of the operator."""
        ragged = Ragged.of(span, None)
        q_BTHE, k_BTGE, v_BTGE = (ragged.compact(x) for x in (q_BTHE, k_BTGE, v_BTGE))
        k_BSGE, v_BSGE = _join(state, k_BTGE, v_BTGE)
        (B, T), S, device = q_BTHE.shape[:2], k_BSGE.shape[1], k_BTGE.device
        before = [0] * B if state is None else state.seen
        pieces, sources, after = [], [], []
        for b, documents in enumerate(_documents(ragged, span, before)):
            for begin, length, position in documents:
                key = b * S + S - T + begin
                stretch = Stretch(1, position, length, b * T + begin, T, key, S, b * S)
                pieces += self.geometry.pieces(stretch)
            begin, length, position = documents[-1]
            after.append(position + length)
            sources.append(self.geometry.sources(position, after[b], S - T + begin - position, device))
        o_BTHE = self.meet_at(q_BTHE, k_BSGE, v_BSGE, tuple(pieces), before)
        source_BSG = torch.nn.utils.rnn.pad_sequence(sources, batch_first=True, padding_value=-1)
        alike = min(after) == max(after)
        seen_BT0 = torch.empty(B, after[0], 0, dtype=torch.bool, device=device) if alike else None
        length_B = None if alike else torch.tensor(after, device=device)
        short_BSG1 = (source_BSG < 0)[..., None]
        k_BSGE, v_BSGE = (_take(x, source_BSG.clamp(min=0)).masked_fill(short_BSG1, 0) for x in (k_BSGE, v_BSGE))
        return ragged.restore(o_BTHE), DilatedKeyValues(k_BSGE, v_BSGE, seen_BT0, length_B)

    def meet_at(self, q_BTHE: Tensor, k_BSGE: Tensor, v_BSGE: Tensor, pieces: Pieces, before: list[int]) -> Tensor:
        """Queries that continue each row's `before` positions meet the cached entries and themselves."""
        if isinstance(self.position, XPos):
            q_BTHE, k_BSGE = self.decay(self.position, q_BTHE, k_BSGE, before)
        return attend(q_BTHE, k_BSGE, v_BSGE, pieces)

    def decay(self, xpos: XPos, q_BTHE: Tensor, k_BSGE: Tensor, before: list[int]) -> tuple[Tensor, Tensor]:
        """Applies xPos's decay, by every entry's own position."""
        T, (S, G) = q_BTHE.shape[1], k_BSGE.shape[1:3]
        new_T = torch.arange(T, device=q_BTHE.device)
        query, key = [], []
        for position in before:
            cached_SG = self.geometry.positions(position, q_BTHE.device)
            holes_SG = cached_SG.new_zeros(S - T - len(cached_SG), G)
            query.append(position + new_T)
            key.append(torch.cat([cached_SG, holes_SG, (position + new_T)[:, None].expand(T, G)]).flatten())
        scales = xpos.scales(self.head, torch.stack(query), torch.stack(key))
        return q_BTHE * scales[0].to(q_BTHE.dtype), k_BSGE * scales[1].view(k_BSGE.shape).to(k_BSGE.dtype)

    def flops(self, T: int) -> int:
        return linear_flops(self.q, self.k, self.v, self.out, T=T) + 4 * self.head * self.geometry.pairs(T)

    def cached_positions(self, T: int) -> int:
        return self.geometry.entries(T)


def _join(state: DilatedKeyValues | None, k_BTGE: Tensor, v_BTGE: Tensor) -> tuple[Tensor, Tensor]:
    return join(state and KeyValues(state.k_BSGD, state.v_BSGD), k_BTGE, v_BTGE)


def _take(x_BRGD: Tensor, source_BSG: Int64[Tensor, "b s g"]) -> Float[Tensor, "b s g d"]:
    """The joined places `source`, head by head. A copy, so as not to pin the call."""
    B, R, G = x_BRGD.shape[:3]
    row_B11 = torch.arange(B, device=x_BRGD.device)[:, None, None] * R
    flat_BSG = (row_B11 + source_BSG) * G + torch.arange(G, device=x_BRGD.device)
    return x_BRGD.flatten(0, 2).index_select(0, flat_BSG.flatten()).view(*flat_BSG.shape, x_BRGD.shape[3])


def _documents(ragged: Ragged, span: Span, before: list[int]) -> list[list[tuple[int, int, int]]]:
    """For every row: compact place, length and position of what the call brings of each document, in order; at least
    one, which may be empty."""
    start_BT = span.start_BT if span.start_BT is not None else torch.zeros_like(ragged.index_BT, dtype=torch.bool)
    starts = start_BT.gather(1, ragged.index_BT).tolist()
    found = []
    for row, count, position in zip(starts, ragged.count_B.tolist(), before, strict=True):
        begins = [place for place in range(count) if row[place]]
        documents = [] if begins[:1] == [0] else [(0, begins[0] if begins else count, position)]
        ends = [*begins[1:], count]
        found.append(documents + [(begin, end - begin, 0) for begin, end in zip(begins, ends, strict=False)])
    return found
