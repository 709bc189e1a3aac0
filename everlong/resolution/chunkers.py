"""Chunkers decide where a chunk is opened. Here those whose rule is fixed.

Legend: B batch rows, T positions of this call, K chunks, D width.

A chunk is opened at a position, from what is known there: its vector and token, and those before. It goes on to the
next position that opens one. Whatever the rule, a document's first position opens a chunk.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from everlong.core.accounting import Chooses
from everlong.core.config import Config, Configurable, check
from everlong.core.span import Span
from everlong.core.state import State
from everlong.resolution.chunks import places, previous, real_positions

WORD = ((48, 57), (65, 90), (97, 122), (128, 191))
"""Bytes that go on with a word: digits, letters, and UTF-8 continuations (SpaceByte, arXiv 2404.14408, sec. 2)."""


@dataclass(frozen=True, eq=False)
class Opening:
    """Where the chunks of a call are opened."""

    opens_BT: Bool[Tensor, "b t"]
    """True where a chunk is opened; never where a position is not real."""
    alike: bool
    """All rows are known to open their chunks at the same positions of a plain span."""
    probability_BT: Float[Tensor, "b t"] | None = None
    """That a chunk is opened, where that was learnt; `None`: the rule is certain."""


class Chunker(Chooses, nn.Module, Configurable):
    """Base of all chunkers. The cost of what depends on the data is told at its nominal rate."""

    shown_share = "chunks/share"

    class Config(Config):
        width: int
        """D, of the vectors that it looks at."""

        @property
        def rate(self) -> float:
            """Positions of a chunk, nominally."""
            raise NotImplementedError

        @property
        def vocabulary(self) -> int | None:
            """How many token ids it knows; `None`: it reads none, or any."""
            return None

    bytes_per_chunk: float
    """The nominal rate, in positions of a chunk."""

    def forward(
        self, x_BTD: Float[Tensor, "b t d"], span: Span, start_BT: Bool[Tensor, "b t"], state: Any = None
    ) -> tuple[Opening, Any]:
        """Where the positions of a call open chunks, and the state after them.

        Args:
            start_BT: where documents begin.
        """
        raise NotImplementedError

    def chunks(self, T: int) -> float | int:
        """Chunks in the first T positions of a document: at the nominal rate, or on average where a share is told."""
        return float(math.ceil(T / self.bytes_per_chunk)) if self.share is None else T * self.share

    def flops(self, T: int) -> int:
        """Forward FLOPs, as those of a part."""
        return 0

    def state_bytes(self, T: int) -> int:
        """Bytes of state, as those of a part."""
        raise NotImplementedError


class PatchState(State):
    """How much of its document each row has heard."""

    heard_B: Int64[Tensor, " b"]


class FixedPatches(Chunker):
    """A chunk every `size` positions of a document. State: one count."""

    class Config(Chunker.Config):
        size: int
        """Positions of a chunk."""

        @property
        def rate(self) -> float:
            return float(self.size)

    def __init__(self, config: FixedPatches.Config) -> None:
        super().__init__()
        check(config.size >= 1, "fixed_patches.size", config.size, "must be at least 1")
        self.size, self.bytes_per_chunk = config.size, config.rate

    def forward(
        self, x_BTD: Float[Tensor, "b t d"], span: Span, start_BT: Bool[Tensor, "b t"], state: PatchState | None = None
    ) -> tuple[Opening, PatchState]:
        real_BT = real_positions(span)
        before_B = torch.zeros_like(span.ids_BT[:, 0]) if state is None else state.heard_B
        place_BT, heard_B = places(real_BT, start_BT, before_B)
        alike = span.plain and (state is None or bool((before_B == before_B[0]).all()))
        return Opening(real_BT & (place_BT % self.size == 0), alike), PatchState(heard_B)

    def state_bytes(self, T: int) -> int:
        return 8


class SpaceState(State):
    """Whether the last position of each row was inside a word."""

    inside_B: Bool[Tensor, " b"]


class SpaceLike(Chunker):
    """A chunk wherever a token that is no part of a word follows one that is: at the first space behind a word, so
    that the inner part's answer is there for the first letter of the next. State: one flag."""

    class Config(Chunker.Config):
        word: tuple[tuple[int, int], ...] = WORD
        """First and last of each range of token ids that are part of a word."""
        bytes_per_chunk: float = 6.0
        """The nominal rate; that of English is about 6 (arXiv 2507.07955, sec. 3.1)."""

        @property
        def rate(self) -> float:
            return self.bytes_per_chunk

    def __init__(self, config: SpaceLike.Config) -> None:
        super().__init__()
        rate = config.bytes_per_chunk
        check(rate >= 1, "space_like.bytes_per_chunk", rate, "must be at least 1")
        self.word, self.bytes_per_chunk = config.word, rate

    def forward(
        self, x_BTD: Float[Tensor, "b t d"], span: Span, start_BT: Bool[Tensor, "b t"], state: SpaceState | None = None
    ) -> tuple[Opening, SpaceState]:
        real_BT, inside_BT = real_positions(span), torch.zeros_like(start_BT)
        for first, last in self.word:
            inside_BT = inside_BT | ((span.ids_BT >= first) & (span.ids_BT <= last))
        before_B = torch.zeros_like(start_BT[:, 0]) if state is None else state.inside_B
        was_inside_BT, inside_B = previous(inside_BT, real_BT, before_B)
        opens_BT = real_BT & (start_BT | (was_inside_BT & ~inside_BT))
        return Opening(opens_BT, alike=span.plain and len(opens_BT) == 1), SpaceState(inside_B)

    def state_bytes(self, T: int) -> int:
        return 1
