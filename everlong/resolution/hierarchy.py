"""A hierarchy: an outer encoder and decoder at full rate, and between them an inner part that hears only chunks.

Legend: B batch rows, T positions of this call, K chunks of this call, D outer width, I inner width.

    e = encoder(x),   opens, p = chunker(e)
    z_k = inner(e at the position that opens chunk k, made wider by a learned vector)          cut to width D again
    s_k = P_k z_k + (1 - P_k) s_{k-1},   P = p where chunk k is opened, within [1e-4, 1 - 1e-4]
    u_t = s of the chunk that t is in,   c_t = p_t where a chunk is opened, else 1 - p_t
    y = decoder(ste(c_t) u_t + W e_t + b),   ste(c) = 1 with the gradient of c

(H-Net, arXiv 2507.07955, sec. 2; the learned width is sec. 2.3.) A chunk's vector is that of its first position, so
all is causal and a position is never waited for. A chunker whose rule is certain has no p: s_k = z_k, and ste is left
out. The inner part may be another hierarchy.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from everlong.core.accounting import Hint, at_mean, element_bytes, linear_flops
from everlong.core.config import check
from everlong.core.part import Part
from everlong.core.span import Span
from everlong.core.state import State
from everlong.resolution.chunkers import Chunker, Opening
from everlong.resolution.chunks import Chunks, places, previous, real_positions, starts
from everlong.resolution.smoothing import smooth

SMALLEST_GAIN = 1e-4  # of the smoothing, and of what it keeps


class HierarchyState(State):
    """The states of the parts, and the open chunk."""

    encoder: Any
    chunker: Any
    inner: Any
    decoder: Any
    chunks_B: Int64[Tensor, " b"]
    """Chunks of each row's document so far."""
    open_BD: Float[Tensor, "b d"]
    """s of the open chunk, in float32 or better."""


class Hierarchy(Part):
    """A part at full rate around a part at the rate of chunks. State: theirs, and the open chunk's vector."""

    class Config(Part.Config):
        encoder: Part.Config
        """Reads every position; of the outer width."""
        chunker: Chunker.Config
        """Says where chunks are opened."""
        inner: Part.Config
        """Hears one vector a chunk; as wide as the outer parts, or wider. Token ids in it are those of the positions
        that open the chunks."""
        decoder: Part.Config
        """Writes every position; of the outer width."""
        learning_rate: float = 1.0
        """Multiplier of the learning rate of all but the inner part."""
        inner_learning_rate: float = 1.0
        """Multiplier of the learning rate of the inner part."""
        room: float | None = None
        """Chunks that a position has room for: a call of T > 1 positions gives every row ceil(room T) places, filled or
        not, so that shapes follow from T alone, and a row that opens more raises `ContextError`. `None`: as many places
        as the row with the most chunks fills."""

    def __init__(self, config: Hierarchy.Config) -> None:
        super().__init__()
        width, inner = config.width, config.inner.width
        for name in ("encoder", "chunker", "decoder"):
            own = getattr(config, name).width
            check(own == width, f"hierarchy.{name}.width", own, f"must be the hierarchy's width, {width}")
        check(inner >= width, "hierarchy.inner.width", inner, f"must be at least the hierarchy's width, {width}")
        room = config.room
        check(room is None or 0 < room <= 1, "hierarchy.room", room, "must be above 0 and at most 1, or None")
        self.room = room
        self.encoder, self.chunker = config.encoder.build(), config.chunker.build()
        self.inner, self.decoder = config.inner.build(), config.decoder.build()
        self.wider = nn.Parameter(torch.zeros(inner - width)) if inner > width else None
        self.residual = nn.Linear(width, width)
        nn.init.zeros_(self.residual.weight)
        nn.init.zeros_(self.residual.bias)
        rate, inner_rate = config.learning_rate, config.inner_learning_rate
        own = ("encoder", "chunker", "decoder", "residual", *(() if self.wider is None else ("wider",)))
        self.hints = {name: Hint(learning_rate=rate) for name in own} | {"inner": Hint(learning_rate=inner_rate)}

    def forward(
        self, x_BTD: Float[Tensor, "b t d"], span: Span, state: HierarchyState | None = None
    ) -> tuple[Float[Tensor, "b t d"], HierarchyState]:
        encoder, chunker, decoder = (None,) * 3 if state is None else (state.encoder, state.chunker, state.decoder)
        e_BTD, encoder = self.encoder(x_BTD, span, encoder)
        start_BT = starts(span, None if state is None else state.chunks_B)
        opening, chunker = self.chunker(e_BTD, span, start_BT, chunker)
        self._observe(span, opening)
        u_BTD, inner, chunks_B, open_BD = self._chunked(e_BTD, span, start_BT, opening, state)
        confidence_BT1 = confidence(opening)
        if confidence_BT1 is not None:
            u_BTD = u_BTD * straight_through(confidence_BT1)
        y_BTD, decoder = self.decoder(u_BTD.to(e_BTD.dtype) + self.residual(e_BTD), span, decoder)
        return y_BTD, HierarchyState(encoder, chunker, inner, decoder, chunks_B, open_BD)

    def _chunked(
        self, e_BTD: Tensor, span: Span, start_BT: Tensor, opening: Opening, state: HierarchyState | None
    ) -> tuple[Tensor, Any, Tensor, Tensor]:
        """u, the inner state, how many chunks each row's document has had, and s of the open one."""
        inner, count_B, before_BD = (
            self._before(e_BTD) if state is None else (state.inner, state.chunks_B, state.open_BD)
        )
        place_BT, count_B = places(opening.opens_BT, start_BT, count_B)
        chunks = Chunks.of(opening.opens_BT, alike=opening.alike, room=self._places(e_BTD.shape[1]))
        if chunks.count == 0:
            return chunks.spread(before_BD, before_BD[:, None][:, :0]), inner, count_B, before_BD
        inner_span = chunks.span(span, start_BT, place_BT)
        z_BKD, inner = self._at_chunks(chunks.take(e_BTD), inner_span, inner)
        z_BKD = torch.where(real_positions(inner_span)[..., None], z_BKD, 0).to(before_BD.dtype)
        s_BKD, after_BD = self._smoothed(z_BKD, chunks, inner_span, start_BT, opening, before_BD)
        return chunks.spread(before_BD, s_BKD), inner, count_B, after_BD

    def _places(self, T: int) -> int | None:
        """How many chunks a call has room for. A single position is skipped by the inner part if none opens one."""
        return None if self.room is None or T == 1 else math.ceil(self.room * T)

    def _before(self, e_BTD: Tensor) -> tuple[None, Tensor, Tensor]:
        """What a stream begins with."""
        B, _, D = e_BTD.shape
        exact = torch.promote_types(e_BTD.dtype, torch.float32)
        return None, torch.zeros(B, dtype=torch.int64, device=e_BTD.device), e_BTD.new_zeros(B, D, dtype=exact)

    def _at_chunks(self, e_BKD: Tensor, span: Span, state: Any) -> tuple[Tensor, Any]:
        """The inner part, between the outer width and its own."""
        if self.wider is None:
            return self.inner(e_BKD, span, state)
        wider_BKI = self.wider.to(e_BKD.dtype).expand(*e_BKD.shape[:2], -1)
        z_BKI, state = self.inner(torch.cat([e_BKD, wider_BKI], dim=-1), span, state)
        return z_BKI[..., : e_BKD.shape[-1]], state

    def _smoothed(
        self, z_BKD: Tensor, chunks: Chunks, inner: Span, start_BT: Tensor, opening: Opening, before_BD: Tensor
    ) -> tuple[Tensor, Tensor]:
        """s of every chunk, and of the last of each row."""
        real_BK = real_positions(inner)
        if opening.probability_BT is None:
            return z_BKD, previous(z_BKD, real_BK, before_BD)[1]
        p_BK = opening.probability_BT.to(before_BD.dtype).gather(1, chunks.index_BK)
        gain_BK = torch.where(real_BK, p_BK.clamp(SMALLEST_GAIN, 1 - SMALLEST_GAIN), 0)
        s_BKD, last_BD = smooth(z_BKD, gain_BK, start_BT.gather(1, chunks.index_BK) & real_BK, before_BD)
        return s_BKD, last_BD.clone()

    def _observe(self, span: Span, opening: Opening) -> None:
        """Shows where chunks were opened, how sure that was, and how many positions a chunk had."""
        span.observe("chunks/opened", opening.opens_BT)
        span.observe("chunks/positions", real_positions(span).sum() / opening.opens_BT.sum().clamp(min=1))
        span.observe(self.chunker.shown_share, span.share(opening.opens_BT))
        if opening.probability_BT is not None:
            span.observe("chunks/probability", opening.probability_BT)

    def flops(self, T: int) -> int:
        """At the chunker's nominal rate."""
        outer = self.encoder.flops(T) + self.chunker.flops(T) + self.decoder.flops(T)
        return outer + linear_flops(self.residual, T=T) + at_mean(self.inner.flops, self.chunker.chunks(T))

    def state_bytes(self, T: int) -> int:
        """At the chunker's nominal rate."""
        outer = self.encoder.state_bytes(T) + self.chunker.state_bytes(T) + self.decoder.state_bytes(T)
        open_chunk = 8 + self.residual.in_features * max(4, element_bytes(self))
        return outer + open_chunk + at_mean(self.inner.state_bytes, self.chunker.chunks(T))


def confidence(opening: Opening) -> Float[Tensor, "b t 1"] | None:
    """c, how sure each decision was; `None` where the rule is certain."""
    p_BT = opening.probability_BT
    return None if p_BT is None else torch.where(opening.opens_BT, p_BT, 1 - p_BT)[..., None]


def straight_through(c: Float[Tensor, "b t 1"]) -> Float[Tensor, "b t 1"]:
    """Exactly 1, with the gradient of c."""
    return 1 + (c - c.detach())
