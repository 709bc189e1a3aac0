"""A stream of tokens through a model: the one way in which scoring and compression predict.

Legend: B batch rows, T positions, V vocabulary.

A document begins with BOS. Where the model can take only `context` tokens, the stream goes on as a new document,
from BOS again and without a past; so a stream of any length can be read by any model.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from everlong.core.config import check
from everlong.core.errors import EverlongError
from everlong.core.state import select_rows
from everlong.data.codec import Codec
from everlong.model.language_model import LanguageModel, StreamState

MOST_LOGITS = 2**24
"""Logits that one call may make, 64 MiB in float32: it bounds the positions of a call, and so its memory."""


class Stream:
    """Rows that are read in step; all their tokens are real, and none is ever read twice.

    Args:
        bos: the id that begins every row's document.
        context: tokens after which a row begins anew. `None`: the model's `context_limit`, or never.

    Raises:
        ConfigError: `context` is below 1 or beyond the model's `context_limit`.
    """

    def __init__(self, model: LanguageModel, bos: int, *, rows: int = 1, context: int | None = None) -> None:
        limit = model.config.context_limit
        fits = context is None or (context >= 1 and (limit is None or context <= limit))
        check(fits, "context", context, "must be at least 1" + (f" and at most {limit}, the model's" if limit else ""))
        self.context = limit if context is None else context
        self.device = next(model.parameters()).device
        self._model, self._bos, self._place = model, bos, 0
        self._last_B1 = torch.full((rows, 1), bos, device=self.device)
        self._state: StreamState | None = None

    @property
    def room(self) -> int:
        """Positions that the next call may have at most."""
        bound = longest_call(self._model, len(self._last_B1))
        if self.context is None:
            return bound
        return min(bound, self.context - self._place % self.context)  # a full context begins anew

    def predict(self) -> Float[Tensor, "b v"]:
        """Logits of every row's next token, which `accept` must then tell."""
        self._begin_if_due()
        return self._feed(self._last_B1)[:, -1]

    def accept(self, ids_B: Int64[Tensor, " b"]) -> None:
        """Tells the tokens that `predict` was about."""
        self._last_B1 = ids_B[:, None].to(self.device)

    def follow(self, ids_BT: Int64[Tensor, "b t"]) -> Float[Tensor, "b t v"]:
        """Logits of each of these tokens, made from those before it; at most `room` positions."""
        self._begin_if_due()
        ids_BT = ids_BT.to(self.device)
        logits_BTV = self._feed(torch.cat([self._last_B1, ids_BT[:, :-1]], dim=1))
        self._last_B1 = ids_BT[:, -1:]
        return logits_BTV

    def keep_first(self, rows: int) -> None:
        """Drops all but the first rows."""
        if rows < len(self._last_B1):
            self._last_B1 = self._last_B1[:rows]
            self._state = select_rows(self._state, torch.arange(rows))

    def _begin_if_due(self) -> None:
        """Begins a document if the context is full."""
        if self._place == self.context:
            self._last_B1 = torch.full_like(self._last_B1, self._bos)
            self._place, self._state = 0, None

    @torch.inference_mode()
    def _feed(self, ids_BT: Tensor) -> Tensor:
        output = self._model(ids_BT, self._state)
        self._state = output.state
        self._place += ids_BT.shape[1]
        return output.logits


def check_codec(model: LanguageModel, codec: Codec) -> None:
    """Raises `ConfigError` if the codec makes ids that the model does not know."""
    vocabulary = model.config.vocabulary
    remedy = f"the model knows only {vocabulary} ids: use the codec that it was trained with"
    check(codec.vocabulary <= vocabulary, "codec.vocabulary", codec.vocabulary, remedy)


def longest_call(model: LanguageModel, rows: int) -> int:
    """Positions of one call that makes at most `MOST_LOGITS` logits."""
    return max(1, MOST_LOGITS // (rows * model.config.vocabulary))


def finite(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Passes on what a model has computed.

    Raises:
        EverlongError: a number is infinite or NaN.
    """
    if not bool(x.isfinite().all()):
        remedy = "the model's numbers overflow: its weights are damaged, or need a wider dtype; try another checkpoint"
        raise EverlongError("logits", "not finite", remedy)
    return x
