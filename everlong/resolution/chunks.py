"""Chunks of a stream: which positions open one, and how vectors go down to the lower rate and back.

Legend: B batch rows, T positions of this call, K chunks opened in this call (the most of any row), D width.

Rows may open different numbers of chunks. The inner part then hears a ragged span; where all rows are known to open
theirs at the same positions of a plain span, it hears a plain one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64, Shaped
from torch import Tensor

from everlong.core.errors import ContextError
from everlong.core.span import Span


@dataclass(frozen=True, eq=False)
class Chunks:
    """The chunks that a call opens."""

    index_BK: Int64[Tensor, "b k"]
    """Which position of the call opens a chunk; arbitrary where none is real."""
    real_BK: Bool[Tensor, "b k"] | None
    """False where a row opens fewer than K chunks. `None`: all rows open theirs at the same positions."""
    which_BT: Int64[Tensor, "b t"]
    """The chunk that a position is in: 0, the one that was open before the call, or the j-th of the call."""

    @classmethod
    def of(cls, opens_BT: Bool[Tensor, "b t"], *, alike: bool, room: int | None = None) -> Chunks:
        """The chunks of a call, from where they are opened.

        Args:
            alike: all rows are known to open theirs at the same positions.
            room: K, whatever is opened; `None`: as many as any row opens.

        Raises:
            ContextError: a row opens more than there is room for.
        """
        count_B = opens_BT.sum(1)
        most = int(count_B.max())
        if room is not None and most > room:
            remedy = f"there is room for {room}: raise hierarchy.room, or bound them with a Capped chunker"
            raise ContextError("chunks of a call", most, remedy)
        K = most if room is None else room
        index_BK = torch.argsort((~opens_BT).byte(), dim=1, stable=True)[:, :K]
        alike = alike and room is None
        real_BK = None if alike else torch.arange(K, device=opens_BT.device) < count_B[:, None]
        return cls(index_BK, real_BK, opens_BT.cumsum(1))

    @property
    def count(self) -> int:
        """K."""
        return self.index_BK.shape[1]

    def take(self, x_BTD: Float[Tensor, "b t d"]) -> Float[Tensor, "b k d"]:
        """The vectors at which chunks are opened; zeros where a row opens fewer."""
        x_BKD = x_BTD.gather(1, self.index_BK[..., None].expand(-1, -1, x_BTD.shape[2]))
        return x_BKD if self.real_BK is None else torch.where(self.real_BK[..., None], x_BKD, 0)

    def spread(self, before_BD: Float[Tensor, "b d"], y_BKD: Float[Tensor, "b k d"]) -> Float[Tensor, "b t d"]:
        """Every position's chunk; `before_BD` is that of the chunk that was open before the call."""
        y_BJD = torch.cat([before_BD[:, None], y_BKD], dim=1)
        return y_BJD.gather(1, self.which_BT[..., None].expand(-1, -1, y_BJD.shape[2]))

    def span(self, span: Span, start_BT: Bool[Tensor, "b t"], place_BT: Int64[Tensor, "b t"]) -> Span:
        """What the inner part hears. Its token ids are those of the positions that open the chunks.

        Args:
            start_BT: where documents begin.
            place_BT: the number of a position's chunk within its document, at the positions that open one.
        """
        ids_BK, place_BK = (x.gather(1, self.index_BK) for x in (span.ids_BT, place_BT))
        shown = {"auxiliary": span.auxiliary, "observed": span.observed}
        if span.plain and self.real_BK is None:
            return Span(ids_BK, place_BK, **shown)
        start_BK = start_BT.gather(1, self.index_BK)
        if self.real_BK is not None:
            start_BK = start_BK & self.real_BK
        document_BT = torch.zeros_like(span.ids_BT) if span.document_BT is None else span.document_BT
        return Span(ids_BK, place_BK, document_BT.gather(1, self.index_BK), start_BK, self.real_BK, **shown)


def real_positions(span: Span) -> Bool[Tensor, "b t"]:
    """Which positions are real."""
    return torch.ones_like(span.ids_BT, dtype=torch.bool) if span.real_BT is None else span.real_BT


def starts(span: Span, heard_B: Int64[Tensor, " b"] | None) -> Bool[Tensor, "b t"]:
    """Where documents begin: where the span says so, and where a row hears anything for the first time.

    Args:
        heard_B: how much of its document a row has heard before; `None`: nothing.
    """
    real_BT = real_positions(span)
    first_BT = real_BT & (real_BT.cumsum(1) == 1)
    if heard_B is not None:
        first_BT = first_BT & (heard_B == 0)[:, None]
    return first_BT if span.start_BT is None else first_BT | span.start_BT


def places(
    marked_BT: Bool[Tensor, "b t"], start_BT: Bool[Tensor, "b t"], before_B: Int64[Tensor, " b"]
) -> tuple[Int64[Tensor, "b t"], Int64[Tensor, " b"]]:
    """How many marked positions of its document come before each position, and how many there are after the call.

    Args:
        start_BT: where documents begin.
        before_B: marked positions of the row's document before the call.
    """
    count_BT = marked_BT.cumsum(1) - marked_BT.long()
    origin_BT = torch.where(start_BT, count_BT, -before_B[:, None]).cummax(1).values
    return count_BT - origin_BT, marked_BT.sum(1) - origin_BT[:, -1]


def previous(
    x_BT: Shaped[Tensor, "b t ..."], real_BT: Bool[Tensor, "b t"], before_B: Shaped[Tensor, "b ..."]
) -> tuple[Shaped[Tensor, "b t ..."], Shaped[Tensor, "b ..."]]:
    """What stands at the last real position before each, and at the last of the call; `before_B` if there is none."""
    step_T = torch.arange(1, x_BT.shape[1] + 1, device=x_BT.device)
    last_BT = torch.where(real_BT, step_T, 0).cummax(1).values
    index_BS = torch.cat([torch.zeros_like(last_BT[:, :1]), last_BT], dim=1)
    inner = x_BT.shape[2:]
    index = index_BS.view(*index_BS.shape, *(1 for _ in inner)).expand(-1, -1, *inner)
    found_BS = torch.cat([before_B[:, None], x_BT], dim=1).gather(1, index)
    return found_BS[:, :-1], found_BS[:, -1].clone()
