"""The language model: embedding, one part, head.

Legend: B batch rows, T positions, D width, V vocabulary.

    output = model(ids_BT, state)

gives logits for the next token at every position, the state after them, and the auxiliary losses. The state also
knows each row's place in its document, so any cut of a stream gives the same numbers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from everlong.core.accounting import Hint, linear_flops
from everlong.core.config import Config, Configurable, check
from everlong.core.errors import ContextError
from everlong.core.part import Part
from everlong.core.span import Span
from everlong.core.state import State


class StreamState(State):
    """Where each row of a stream stands, and what the body remembers."""

    position_B: Int64[Tensor, " b"]
    """Position that the next token would have, if it continued the document."""
    document_B: Int64[Tensor, " b"]
    """The document that the row is in; -1 before the first real token."""
    body: Any


@dataclass(frozen=True, eq=False)
class Output:
    """What a language model returns."""

    logits: Float[Tensor, "b t v"]
    """Unnormalised log-probabilities of the next token."""
    state: StreamState
    """Pass it to the next call to continue the stream."""
    auxiliary: dict[str, Float[Tensor, ""]]
    """Named auxiliary losses, to be added to the training loss."""
    observed: dict[str, list[Tensor]]
    """What parts have shown of this call, by name; see `Span.observe`."""


class LanguageModel(nn.Module, Configurable):
    """Predicts the next token of a stream."""

    hints = {"embedding": Hint(matrix=False, decay=False), "head": Hint(matrix=False)}  # noqa: RUF012

    class Config(Config):
        vocabulary: int
        """V, token ids 0 .. V-1."""
        body: Part.Config
        """The part between embedding and head."""
        context_limit: int | None
        """Longest document, in tokens; longer input raises `ContextError`. `None`: no limit."""

    def __init__(self, config: LanguageModel.Config) -> None:
        super().__init__()
        check(config.vocabulary >= 2, "vocabulary", config.vocabulary, "must be at least 2")
        check(config.body.width >= 1, "width", config.body.width, "must be at least 1")
        limit = config.context_limit
        check(limit is None or limit >= 1, "context_limit", limit, "must be at least 1, or None for no limit")
        self.config = config
        self.embedding = nn.Embedding(config.vocabulary, config.body.width)
        self.body = config.body.build()
        self.head = nn.Linear(config.body.width, config.vocabulary, bias=False)
        self._initialise()
        self.eval()  # parts that train in another way than they stream are told by `train()`

    def _initialise(self) -> None:
        """Embeddings of unit size, which the first norm keeps; a head that starts close to uniform."""
        nn.init.normal_(self.embedding.weight)
        nn.init.normal_(self.head.weight, std=0.1 / math.sqrt(self.config.body.width))

    def forward(
        self,
        ids: Int64[Tensor, "b t"],
        state: StreamState | None = None,
        *,
        documents: Int64[Tensor, "b t"] | None = None,
        real: Bool[Tensor, "b t"] | None = None,
    ) -> Output:
        """Continues a stream by T tokens a row.

        Args:
            ids: token ids; any valid id where a position is not real.
            state: `None` at the start, then `output.state` of the last call.
            documents: document ids of packed rows. A change between one real token and the next, also across
                calls, begins a new document, which hears nothing of what came before. `None`: the row goes on
                with its document.
            real: `False` marks padding, which may stand anywhere and changes nothing. `None`: all real.

        Raises:
            ContextError: no tokens, an id outside the vocabulary, a document longer than `context_limit`, or a
                state whose number of rows is not B.
        """
        self._check(ids, state)
        span, position_B, document_B = _locate(ids, state, documents, real)
        self._check_limit(span)
        x_BTD, body = self.body(self._embed(ids), span, None if state is None else state.body)
        after = StreamState(position_B, document_B, body)
        told = dict(span.auxiliary), dict(span.observed)  # who recomputes parts for a gradient has them tell again
        return Output(self.head(x_BTD), after, *told)

    def _check(self, ids: Tensor, state: StreamState | None) -> None:
        if ids.numel() == 0:
            raise ContextError("ids", tuple(ids.shape), "must hold at least one row and one token (such as BOS)")
        if state is not None and state.position_B.shape[0] != ids.shape[0]:
            rows = state.position_B.shape[0]
            raise ContextError("state", f"{rows} rows", f"ids have {ids.shape[0]} rows; use select_rows or repeat_rows")

    def _embed(self, ids_BT: Tensor) -> Tensor:
        try:
            return self.embedding(ids_BT)
        except IndexError as error:
            found = f"{int(ids_BT.min())} .. {int(ids_BT.max())}"
            raise ContextError("ids", found, f"must lie in 0 .. {self.config.vocabulary - 1}") from error

    def _check_limit(self, span: Span) -> None:
        limit = self.config.context_limit
        if limit is None:
            return
        real_BT = torch.ones_like(span.position_BT) if span.real_BT is None else span.real_BT
        if (length := int(((span.position_BT + 1) * real_BT).max())) > limit:
            raise ContextError("ids", f"{length} tokens", f"this model's context_limit is {limit}; shorten the input")

    def flops(self, T: int) -> int:
        """Forward FLOPs of a stream of T tokens, by `Part.flops`'s convention; looking up embeddings is free."""
        return self.body.flops(T) + linear_flops(self.head, T=T)

    def state_bytes(self, T: int) -> int:
        """Bytes of state of one row after T tokens: the body's, and two integers."""
        return self.body.state_bytes(T) + 16


def _locate(
    ids_BT: Tensor, state: StreamState | None, documents_BT: Tensor | None, real_BT: Tensor | None
) -> tuple[Span, Tensor, Tensor]:
    """The span of a call, and each row's next position and document after it."""
    B, T = ids_BT.shape
    position_B = ids_BT.new_zeros(B) if state is None else state.position_B
    before_B = ids_BT.new_full((B,), -1) if state is None else state.document_B
    if documents_BT is None and real_BT is None:
        span = Span.plain_from(ids_BT, None if state is None else position_B)
        return span, position_B + T, before_B.clamp(min=0)
    if documents_BT is None:
        documents_BT = before_B.clamp(min=0)[:, None].expand(B, T)
    span = Span.ragged_from(ids_BT, documents_BT, real_BT, position_B, before_B)
    real_BT = torch.ones_like(ids_BT, dtype=torch.bool) if real_BT is None else real_BT
    last_B1 = torch.where(real_BT, torch.arange(1, T + 1, device=ids_BT.device), 0).amax(1, keepdim=True)
    positions_BT = torch.cat([position_B[:, None], span.position_BT + 1], dim=1)
    documents_BT = torch.cat([before_B[:, None], documents_BT], dim=1)
    return span, positions_BT.gather(1, last_B1)[:, 0], documents_BT.gather(1, last_B1)[:, 0]
