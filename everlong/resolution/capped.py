"""At most so many chunks in a stretch, whatever another chunker asks for.

Legend: B batch rows, T positions of this call, D width.

A document is cut in stretches of S positions from its start; of the positions of a stretch that the inner chunker wants
to open a chunk, the first N do, and the others stay in the open chunk. So nothing is lost, and the rule is one of the
stream and not of the call: it is causal, and no cut of the stream shows. T positions of one document open at most
N (ceil((T - 1) / S) + 1) chunks. A document's first position opens one as ever, since it is the first of a stretch.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from jaxtyping import Bool, Float, Int64
from torch import Tensor

from everlong.core.config import check
from everlong.core.span import Span
from everlong.core.state import State
from everlong.resolution.chunkers import Chunker, Opening
from everlong.resolution.chunks import places, real_positions


class CappedState(State):
    """The inner chunker's state; how much of its document each row has heard, and wanted chunks of the stretch."""

    inner: Any
    heard_B: Int64[Tensor, " b"]
    wanted_B: Int64[Tensor, " b"]


class Capped(Chunker):
    """Another chunker's chunks, but for those beyond a number a stretch. State: the other's, and two counts."""

    shown_share = "chunks/share under the cap"

    class Config(Chunker.Config):
        inner: Chunker.Config
        """Wants chunks; what it learns and reports is untouched."""
        chunks: int
        """N, the most that a stretch opens."""
        positions: int
        """S, of a stretch."""

        @property
        def rate(self) -> float:
            return max(self.inner.rate, self.positions / self.chunks)

        @property
        def vocabulary(self) -> int | None:
            return self.inner.vocabulary

    def __init__(self, config: Capped.Config) -> None:
        super().__init__()
        chunks, own = config.chunks, config.inner.width
        check(config.positions >= 1, "capped.positions", config.positions, "must be at least 1")
        remedy = f"must lie between 1 and the stretch's {config.positions} positions"
        check(1 <= chunks <= config.positions, "capped.chunks", chunks, remedy)
        check(own == config.width, "capped.inner.width", own, f"must be the width of the whole, {config.width}")
        self.inner, self.most, self.stretch = config.inner.build(), chunks, config.positions
        self.bytes_per_chunk = config.rate

    def forward(
        self,
        x_BTD: Float[Tensor, "b t d"],
        span: Span,
        start_BT: Bool[Tensor, "b t"],
        state: CappedState | None = None,
    ) -> tuple[Opening, CappedState]:
        opening, inner = self.inner(x_BTD, span, start_BT, None if state is None else state.inner)
        real_BT, none_B = real_positions(span), span.ids_BT.new_zeros(len(span.ids_BT))
        heard_B, wanted_B = (none_B, none_B) if state is None else (state.heard_B, state.wanted_B)
        place_BT, heard_B = places(real_BT, start_BT, heard_B)
        begins_BT = real_BT & (place_BT % self.stretch == 0)
        rank_BT, wanted_B = places(opening.opens_BT, begins_BT, wanted_B)
        span.observe(self.inner.shown_share, span.share(opening.opens_BT))
        opens_BT = opening.opens_BT & (rank_BT < self.most)
        return replace(opening, opens_BT=opens_BT), CappedState(inner, heard_B, wanted_B)

    def flops(self, T: int) -> int:
        return self.inner.flops(T)

    def state_bytes(self, T: int) -> int:
        return self.inner.state_bytes(T) + 16
