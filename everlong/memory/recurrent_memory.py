"""Recurrent memory: vectors that a part reads before, and writes after, every segment (RMT, Bulatov, Kuratov & Burtsev
2022, arXiv 2207.06881, section 3).

Legend: B batch rows, T positions, D width, N positions of a segment, M memory vectors, L places of an inner call.

With X_s the vectors of segment s, counted from the document's start, and m_0 learnt, the inner part hears

    [m_{s-1}; X_s; m_{s-1}],   m_s = its answer at the last M places,

each segment as a document of its own: all that a segment knows of those before it are M vectors. The inner part is
causal, so that only the vectors behind a segment can take in all of it. They are added as soon as the segment is full,
and what they have become is read by the next at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from everlong.core.accounting import Hint, element_bytes
from everlong.core.config import check
from everlong.core.part import Part
from everlong.core.span import Span
from everlong.core.state import State

UNREAD = -1  # of a segment, before its memory is read


class RecurrentMemoryState(State):
    """What the open segment was given, and how far it has come."""

    memory_BMD: Float[Tensor, "b m d"]
    inner: Any
    """Of the open segment, whose memory it has read."""
    heard_BN0: Float[Tensor, "b n 0"] | None
    """One longer than the open segment, and empty; `None` where rows differ."""
    heard_B: Int64[Tensor, " b"] | None
    """Positions of each row's open segment, where they differ; `UNREAD` before its first document."""

    @property
    def heard(self) -> list[int]:
        """Positions of each row's open segment."""
        if self.heard_BN0 is not None:
            return [self.heard_BN0.shape[1] - 1] * self.heard_BN0.shape[0]
        assert self.heard_B is not None
        return self.heard_B.tolist()


class RecurrentMemory(Part):
    """Any part, segment by segment, with memory vectors handed on. State: these, and the part's of the open segment."""

    class Config(Part.Config):
        inner: Part.Config
        """What hears the segments."""
        segment: int
        """N."""
        memories: int
        """M."""

    def __init__(self, config: RecurrentMemory.Config) -> None:
        super().__init__()
        for name in ("segment", "memories"):
            check(getattr(config, name) >= 1, f"recurrent_memory.{name}", getattr(config, name), "must be at least 1")
        remedy = f"must be the memory's width, {config.width}"
        check(config.inner.width == config.width, "recurrent_memory.inner.width", config.inner.width, remedy)
        self.segment = config.segment
        self.memory = nn.Parameter(torch.randn(config.memories, config.width))
        self.inner = config.inner.build()
        self.hints = {"memory": Hint(matrix=False, decay=False)}

    def forward(
        self, x_BTD: Float[Tensor, "b t d"], span: Span, state: RecurrentMemoryState | None = None
    ) -> tuple[Float[Tensor, "b t d"], RecurrentMemoryState]:
        first_BMD = self.memory.to(x_BTD.dtype).expand(x_BTD.shape[0], -1, -1)
        if state is None:
            state = _after(first_BMD.clone(), None, [UNREAD] * x_BTD.shape[0])
        memory_BMD, inner, heard = state.memory_BMD, state.inner, state.heard
        nowhere = span.ids_BT.new_empty(0)  # for a call without a real position
        answers, places = [x_BTD[:0, 0]], [(nowhere, nowhere)]
        for turn in turns(span, heard, self.segment):
            memory_BMD = torch.where(_marked(turn.begins_document, x_BTD), first_BMD, memory_BMD)
            layout = Layout.of(turn, memory_BMD.shape[1], span)
            hears_BLD = _gathered(torch.cat([memory_BMD, x_BTD], dim=1), layout.source_BL)
            answer_BLD, inner = self._heard(hears_BLD, layout.span, inner if turn.goes_on else None, span)
            memory_BMD = torch.where(_marked(turn.full, x_BTD), _gathered(answer_BLD, layout.written_BM), memory_BMD)
            answers.append(answer_BLD[layout.answer_RR])
            places.append(layout.place_RR)
        rows_R, positions_R = (torch.cat(index) for index in zip(*places, strict=True))
        y_BTD = torch.zeros_like(x_BTD).index_put((rows_R, positions_R), torch.cat(answers))
        return y_BTD, _after(memory_BMD, inner, heard)

    def _heard(self, hears_BLD: Tensor, inner: Span, state: Any, outer: Span) -> tuple[Tensor, Any]:
        """The inner part's answers; place by place if one position was given, which then costs what it is said to."""
        if outer.ids_BT.shape[1] > 1:
            return self.inner(hears_BLD, inner, state)
        answers = []
        for i in range(hears_BLD.shape[1]):
            answer_B1D, state = self.inner(hears_BLD[:, i : i + 1], _place(inner, i), state)
            answers.append(answer_B1D)
        return torch.cat(answers, dim=1), state

    def flops(self, T: int) -> int:
        (whole, rest), M = divmod(T, self.segment), len(self.memory)
        return whole * self.inner.flops(M + self.segment + M) + self.inner.flops(M + rest)

    def state_bytes(self, T: int) -> int:
        inner = self.inner.state_bytes(len(self.memory) + T % self.segment)
        return self.memory.numel() * element_bytes(self) + inner

    def residual_writers(self) -> list[nn.Linear]:
        return self.inner.residual_writers()


@dataclass(frozen=True)
class Turn:
    """What one call of the inner part hears: of each row a run of real positions within one segment."""

    runs: list[list[int]]
    """Positions of the outer call; none where a row has nothing left."""
    begins_document: list[bool]
    opens: list[bool]
    """Whether the memory is read before the run."""
    before: list[int]
    """Positions of the segment before the run; `UNREAD` where nothing of it was heard, not even the memory."""
    full: list[bool]
    """Whether the run completes its segment."""

    @property
    def goes_on(self) -> bool:
        """Whether any row is amid a segment, so that the inner part has a state to go on from."""
        return any(before != UNREAD for before in self.before)

    @property
    def alike(self) -> bool:
        """Whether all rows hear the same places of a segment."""
        return len({(len(run), *rest) for run, *rest in zip(self.runs, self.opens, self.before, strict=True)}) == 1


def turns(span: Span, heard: list[int], N: int) -> Iterator[Turn]:
    """Run after run of every row, until nothing is left to hear or to read; a run ends with its segment or document.
    `heard` is kept up to date."""
    queues, starts = _positions(span), _starts(span)
    unread = [False] * len(queues)  # a segment is full, and the next one has to read what it wrote
    while any(queues) or any(unread):
        turn = Turn([], [], [], [], [])
        for row, queue in enumerate(queues):
            begins = bool(queue) and queue[0] in starts[row]
            before = UNREAD if begins else heard[row]
            room = N - max(before, 0)
            ends = [i for i, t in enumerate(queue[:room]) if i and t in starts[row]]
            run, queues[row] = queue[: min([room, *ends])], queue[min([room, *ends]) :]
            opens = before == UNREAD and (bool(run) or unread[row])
            full = unread[row] = bool(run) and len(run) == room
            heard[row] = UNREAD if full else max(before, 0) + len(run) if opens or before != UNREAD else UNREAD
            for field, value in zip(vars(turn).values(), (run, begins, opens, before, full), strict=True):
                field.append(value)
        yield turn


def _positions(span: Span) -> list[list[int]]:
    """The real positions of every row."""
    B, T = span.ids_BT.shape
    if span.real_BT is None:
        return [list(range(T))] * B
    return [[t for t, real in enumerate(row) if real] for row in span.real_BT.tolist()]


def _starts(span: Span) -> list[set[int]]:
    """The positions of every row at which documents start."""
    if span.start_BT is None:
        return [set()] * span.ids_BT.shape[0]
    return [{t for t, start in enumerate(row) if start} for row in span.start_BT.tolist()]


@dataclass(frozen=True, eq=False)
class Layout:
    """Where the vectors of a turn come from, and where its answers go."""

    source_BL: Int64[Tensor, "b l"]
    """Of each place of the inner call, on the axis of memory and outer positions; arbitrary where it is not real."""
    span: Span
    """Of the inner call."""
    written_BM: Int64[Tensor, "b m"]
    """Places at which the memory is written; arbitrary where a segment is not full."""
    answer_RR: tuple[Tensor, Tensor]
    """Rows and places at which outer positions are answered, one after the other."""
    place_RR: tuple[Tensor, Tensor]
    """Rows and positions of the same in the outer call."""

    @classmethod
    def of(cls, turn: Turn, M: int, span: Span) -> Layout:
        device, memory = span.ids_BT.device, list(range(M))
        heads = [memory if opens else [] for opens in turn.opens]
        tails = [memory if full else [] for full in turn.full]
        rows = [[*head, *(M + t for t in run), *tail] for head, run, tail in zip(heads, turn.runs, tails, strict=True)]
        source_BL = _padded(rows, device)
        offset_B = [0 if before == UNREAD else M + before for before in turn.before]
        written = [[len(row) - M + i if full else 0 for i in memory] for row, full in zip(rows, turn.full, strict=True)]
        answer = [(b, len(heads[b]) + i, t) for b, run in enumerate(turn.runs) for i, t in enumerate(run)]
        row_R, place_R, position_R = torch.tensor(answer, dtype=torch.long, device=device).view(-1, 3).unbind(1)
        inner = _inner_span(turn, span, source_BL, M, [len(row) for row in rows], offset_B)
        return cls(source_BL, inner, _padded(written, device), (row_R, place_R), (row_R, position_R))


def _inner_span(turn: Turn, span: Span, source_BL: Tensor, M: int, lengths: list[int], offsets: list[int]) -> Span:
    """Every segment is a document; vectors of the memory carry the id 0."""
    device = source_BL.device
    ids_BL = torch.cat([span.ids_BT.new_zeros(len(lengths), M), span.ids_BT], dim=1).gather(1, source_BL)
    inner = Span.plain_from(ids_BL, torch.tensor(offsets, device=device))
    if not turn.alike:
        place_L = torch.arange(source_BL.shape[1], device=device)
        real_BL = place_L < torch.tensor(lengths, device=device)[:, None]
        start_BL = (place_L == 0) & torch.tensor(turn.opens, device=device)[:, None]
        inner = replace(inner, document_BT=torch.zeros_like(ids_BL), start_BT=start_BL, real_BT=real_BL)
    return replace(inner, auxiliary=span.auxiliary, observed=span.observed)


def _after(memory_BMD: Tensor, inner: Any, heard: list[int]) -> RecurrentMemoryState:
    if min(heard) == max(heard):
        return RecurrentMemoryState(memory_BMD, inner, memory_BMD.new_empty(len(heard), heard[0] + 1, 0), None)
    return RecurrentMemoryState(memory_BMD, inner, None, torch.tensor(heard, device=memory_BMD.device))


def _place(span: Span, i: int) -> Span:
    """One place of a span."""
    fields = ("ids_BT", "position_BT", "document_BT", "start_BT", "real_BT")
    cut = {name: value[:, i : i + 1] for name in fields if (value := getattr(span, name)) is not None}
    return replace(span, **cut)


def _padded(rows: list[list[int]], device: torch.device) -> Int64[Tensor, "b l"]:
    longest = max(map(len, rows))
    return torch.tensor([row + [0] * (longest - len(row)) for row in rows], device=device)


def _marked(rows: list[bool], x_BTD: Tensor) -> Tensor:
    return torch.tensor(rows, device=x_BTD.device)[:, None, None]


def _gathered(x_BTD: Tensor, index_BL: Tensor) -> Tensor:
    return x_BTD.gather(1, index_BL[..., None].expand(-1, -1, x_BTD.shape[-1]))
