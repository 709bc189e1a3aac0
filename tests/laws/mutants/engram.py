"""What implementations of Engram get wrong: each mutant is caught by a law."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from everlong import Span
from everlong.memory.engram import Engram, EngramState
from everlong.memory.hashing import layer_hashes
from tests.laws.mutants.base import Mutant
from tests.laws.stream import VOCABULARY

HASH = layer_hashes([1], vocabulary=VOCABULARY, orders=(2, 3), rows=5, heads=2, pad=VOCABULARY - 1)[1]
NUMBERS: dict[str, Any] = {"width": 8, "hash": HASH, "row_width": 3}


class CrossesDocuments(Engram):
    """N-grams reach into the document before, as in the authors' demonstration."""

    def forward(self, x_BTD: Tensor, span: Span, state: Any = None) -> tuple[Tensor, Any]:
        nowhere = torch.zeros_like(span.ids_BT, dtype=torch.bool)
        return super().forward(
            x_BTD, Span(span.ids_BT, span.position_BT, span.document_BT, nowhere, span.real_BT), state
        )


class HashesPadding(Engram):
    def forward(self, x_BTD: Tensor, span: Span, state: Any = None) -> tuple[Tensor, Any]:
        return super().forward(x_BTD, Span(span.ids_BT, span.position_BT, span.document_BT, span.start_BT), state)


class BeginsEveryCallAnew(Engram):
    """Decodes without the tokens before, as a training module that is called step by step does."""

    def forward(self, x_BTD: Tensor, span: Span, state: Any = None) -> tuple[Tensor, Any]:
        return super().forward(x_BTD, span, None)


class KeepsOneTokenTooFew(Engram):
    def forward(self, x_BTD: Tensor, span: Span, state: Any = None) -> tuple[Tensor, Any]:
        y_BTD, new = super().forward(x_BTD, span, state)
        history_BL = new.history_BL.clone()
        history_BL[:, 0] = self.hash.pad
        return y_BTD, EngramState(history_BL)


class MultipliesInReverse(Engram):
    """The multiplier of the oldest token given to the current one."""

    def __init__(self, config: Engram.Config) -> None:
        reverse = config.hash.replace(multipliers=config.hash.multipliers[::-1])
        super().__init__(config.replace(hash=reverse))


def mutant(part: type[Engram], message: str) -> Mutant:
    return Mutant(part, message, NUMBERS, Engram.Config)


NOT_ISOLATED = [mutant(CrossesDocuments, "itself alone"), mutant(HashesPadding, "itself alone")]
NOT_SPLIT_INVARIANT = [mutant(BeginsEveryCallAnew, "the output: differs"), mutant(KeepsOneTokenTooFew, "differs")]
NOT_THE_ORACLE = [mutant(MultipliesInReverse, "against the oracle: the output")]
