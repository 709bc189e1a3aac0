"""What a law feeds to a part: a stream of vectors and ids, whose rows may hold documents and padding.

Legend: B batch rows, T positions, D width.

The span of a call is worked out here row by row and position by position, as the definition reads, so that the laws
also judge `Span.ragged_from`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from everlong.core.span import Span

VOCABULARY = 17


@dataclass(frozen=True, eq=False)
class Stream:
    """Everything from the first position on; `document_BT` and `real_BT` are both `None` in a plain stream."""

    x_BTD: Tensor
    ids_BT: Tensor
    document_BT: Tensor | None = None
    real_BT: Tensor | None = None

    @classmethod
    def random(cls, B: int, T: int, D: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Stream:
        """A plain stream."""
        generator = torch.Generator().manual_seed(seed)
        x_BTD = torch.randn(B, T, D, generator=generator, dtype=torch.float64).to(dtype)
        return cls(x_BTD, torch.randint(VOCABULARY, (B, T), generator=generator))

    @property
    def shape(self) -> tuple[int, int]:
        B, T = self.ids_BT.shape
        return B, T

    @property
    def mask_BT(self) -> Tensor:
        """Which positions are real."""
        return torch.ones_like(self.ids_BT, dtype=torch.bool) if self.real_BT is None else self.real_BT

    @property
    def span(self) -> Span:
        """The whole stream as one span."""
        if self.document_BT is None:
            return Span.plain_from(self.ids_BT)
        position_BT, start_BT = _located(self.document_BT, self.mask_BT)
        return Span(self.ids_BT, position_BT, self.document_BT, start_BT, self.real_BT)

    def pieces(self, cuts: Sequence[int]) -> Iterator[tuple[Tensor, Span]]:
        """The vectors and the span of every call, when the stream is cut before the positions `cuts`."""
        span, ends = self.span, [0, *sorted(set(cuts)), self.shape[1]]
        for begin, end in pairwise(ends):
            if begin < end:
                yield self.x_BTD[:, begin:end], cut(span, begin, end)

    def until(self, end: int) -> Stream:
        """The first `end` positions."""
        document, real = (None if x is None else x[:, :end] for x in (self.document_BT, self.real_BT))
        return Stream(self.x_BTD[:, :end], self.ids_BT[:, :end], document, real)

    def rows(self, index: Sequence[int]) -> Stream:
        """Some of the rows."""
        document, real = (None if x is None else x[list(index)] for x in (self.document_BT, self.real_BT))
        return Stream(self.x_BTD[list(index)], self.ids_BT[list(index)], document, real)

    def documents(self) -> Iterator[tuple[int, Tensor]]:
        """Row and real positions of every document, in order."""
        if self.document_BT is None:
            yield from ((b, torch.arange(self.shape[1])) for b in range(self.shape[0]))
            return
        start_BT = _located(self.document_BT, self.mask_BT)[1]
        for b in range(self.shape[0]):
            real_R = self.mask_BT[b].nonzero()[:, 0]
            label_R = start_BT[b].cumsum(0)[real_R]
            yield from ((b, real_R[label_R == label]) for label in label_R.unique())


def cut(span: Span, begin: int, end: int) -> Span:
    """A stretch of a span."""
    return _map_span(span, lambda x: x[:, begin:end])


def place(span: Span, device: str) -> Span:
    """The same span on a device."""
    return _map_span(span, lambda x: x.to(device))


def _map_span(span: Span, function: Callable[[Tensor], Tensor]) -> Span:
    fields = (span.document_BT, span.start_BT, span.real_BT)
    document_BT, start_BT, real_BT = (None if x is None else function(x) for x in fields)
    return Span(function(span.ids_BT), function(span.position_BT), document_BT, start_BT, real_BT)


def _located(document_BT: Tensor, real_BT: Tensor) -> tuple[Tensor, Tensor]:
    """Position within its document of every position, and where documents start."""
    position_BT, start_BT = torch.zeros_like(document_BT), torch.zeros_like(real_BT)
    for b, (documents, reals) in enumerate(zip(document_BT.tolist(), real_BT.tolist(), strict=True)):
        position, current = 0, None
        for t, (document, real) in enumerate(zip(documents, reals, strict=True)):
            if real and document != current:
                start_BT[b, t], position, current = True, 0, document
            position_BT[b, t] = position
            position += real
    return position_BT, start_BT


def random_layout(stream: Stream, seed: int, padding: float = 0.3, ends: float = 0.2) -> Stream:
    """The same vectors in rows that hold several documents, with padding anywhere and junk in it."""
    generator = torch.Generator().manual_seed(seed)
    draw_BT = torch.rand(stream.shape, generator=generator)
    real_BT = torch.rand(stream.shape, generator=generator) >= padding
    document_BT = ((draw_BT < ends) & real_BT).cumsum(1)
    junk_BT = torch.randint(90, 99, stream.shape, generator=generator)
    return replace(stream, document_BT=torch.where(real_BT, document_BT, junk_BT), real_BT=real_BT)
