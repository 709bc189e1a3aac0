"""What implementations of Engram get wrong: each mutant is caught by a law."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from everlong import Span
from everlong.memory.engram import Engram, EngramState
from everlong.memory.ngram_head import NGramHeads, NGramHeadState
from everlong.memory.short_convolution import ShortConvolution, ShortConvolutionState
from tests.laws.entries.engram import COMPRESSION, hashes
from tests.laws.entries.engram import heads as ngram_heads
from tests.laws.mutants.base import Mutant

NUMBERS: dict[str, Any] = {"width": 8, "hash": hashes(orders=(2, 3), heads=2), "row_width": 3}
CONVOLUTION: dict[str, Any] = {"width": 8, "taps": 3, "dilation": 2, "branches": 2}


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


class SharesOneGate(Engram):
    """Every branch let in as far as the first."""

    def _gated(self, x_BTD: Tensor, e_BTM: Tensor, span: Span) -> Tensor:
        first, *_ = super()._gated(x_BTD, e_BTM, span).chunk(self.branches, dim=-1)
        return torch.cat([first] * self.branches, dim=-1)


class HashesRawHistory(Engram):
    """Compresses the tokens of a call, but keeps those before it as they are."""

    def forward(self, x_BTD: Tensor, span: Span, state: Any = None) -> tuple[Tensor, Any]:
        y_BTD, new = super().forward(x_BTD, span, state)
        T, L = span.ids_BT.shape[1], new.history_BL.shape[1]
        kept = min(T, L)
        raw_BL = torch.cat([new.history_BL[:, : L - kept], span.ids_BT[:, T - kept :]], dim=1)
        return y_BTD, EngramState(raw_BL.clamp(max=self.hash.config.vocabulary - 1))


class ConvolvesAcrossDocuments(ShortConvolution):
    def forward(self, x_BTD: Tensor, span: Span, state: Any = None) -> tuple[Tensor, Any]:
        nowhere = torch.zeros_like(span.ids_BT, dtype=torch.bool)
        return super().forward(x_BTD, replace(span, start_BT=None if span.plain else nowhere), state)


class ConvolvesPadding(ShortConvolution):
    def forward(self, x_BTD: Tensor, span: Span, state: Any = None) -> tuple[Tensor, Any]:
        return super().forward(x_BTD, replace(span, real_BT=None), state)


class ForgetsItsPast(ShortConvolution):
    """Decodes without a state, as a training module that is called step by step does."""

    def forward(self, x_BTD: Tensor, span: Span, state: Any = None) -> tuple[Tensor, Any]:
        return super().forward(x_BTD, span, None)


class KeepsInputsAsTheyCame(ShortConvolution):
    """Keeps the past before the norm."""

    def forward(self, x_BTD: Tensor, span: Span, state: Any = None) -> tuple[Tensor, Any]:
        y_BTD, new = super().forward(x_BTD, span, state)
        kept = min(x_BTD.shape[1], self.kept)
        past_BLD = torch.cat([new.past_BLD[:, kept:], x_BTD[:, x_BTD.shape[1] - kept :]], dim=1)
        return y_BTD, ShortConvolutionState(past_BLD)


class KeepsTooMuch(ShortConvolution):
    """Its state is a view that holds a whole call alive."""

    def forward(self, x_BTD: Tensor, span: Span, state: Any = None) -> tuple[Tensor, Any]:
        y_BTD, new = super().forward(x_BTD, span, state)
        whole_BSD = torch.cat([x_BTD, new.past_BLD], dim=1)
        return y_BTD, ShortConvolutionState(whole_BSD[:, x_BTD.shape[1] :])


class ConvolvesWithoutDilation(ShortConvolution):
    def __init__(self, config: ShortConvolution.Config) -> None:
        super().__init__(config)
        self.lags = list(range(config.taps))


class ReversesTaps(ShortConvolution):
    """The weight of the oldest input given to the newest."""

    def __init__(self, config: ShortConvolution.Config) -> None:
        super().__init__(config)
        self.lags = self.lags[::-1]


class NormalisesBranchesTogether(ShortConvolution):
    def __init__(self, config: ShortConvolution.Config) -> None:
        super().__init__(config)
        self.norm.branches = 1


class FindsAcrossDocuments(NGramHeads):
    def forward(self, x_BTD: Tensor, span: Span, state: Any = None) -> tuple[Tensor, Any]:
        nowhere = torch.zeros_like(span.ids_BT, dtype=torch.bool)
        return super().forward(x_BTD, replace(span, start_BT=None if span.plain else nowhere), state)


class FindsItself(NGramHeads):
    """The last place up to t and not before it: what follows there is what is to be predicted."""

    def following(self, span: Span, past_BL: Tensor | None) -> Tensor:
        token_BTO = super().following(span, past_BL)
        return torch.cat([span.ids_BT[:, 1:, None].expand(-1, -1, len(self.orders)), token_BTO[:, -1:]], dim=1)


class FindsNothingBeforeTheCall(NGramHeads):
    def following(self, span: Span, past_BL: Tensor | None) -> Tensor:
        return super().following(span, None)


class KeepsOneTokenOnly(NGramHeads):
    def forward(self, x_BTD: Tensor, span: Span, state: Any = None) -> tuple[Tensor, Any]:
        y_BTD, new = super().forward(x_BTD, span, state)
        past_BL = new.past_BL.clone()
        past_BL[:, :-1] = -1
        return y_BTD, NGramHeadState(past_BL)


class LooksBeyondTheWindow(NGramHeads):
    def __init__(self, config: NGramHeads.Config) -> None:
        super().__init__(config)
        self.window += 1


class SharesItsVectors(NGramHeads):
    """Every order gets the vectors of the first."""

    def following(self, span: Span, past_BL: Tensor | None) -> Tensor:
        token_BTO = super().following(span, past_BL)
        return token_BTO - torch.arange(len(self.orders)) * (self.nothing + 1)


def mutant(part: type[Engram], message: str, **numbers: Any) -> Mutant:
    return Mutant(part, message, NUMBERS | numbers, Engram.Config)


def convolution(part: type[ShortConvolution], message: str) -> Mutant:
    return Mutant(part, message, CONVOLUTION, ShortConvolution.Config)


HEADS = ngram_heads(orders=(1, 2), window=4)


def heads(part: type[NGramHeads], message: str) -> Mutant:
    return Mutant(part, message, {name: getattr(HEADS, name) for name in vars(HEADS)}, NGramHeads.Config)


COMPRESSED = hashes(orders=(1, 3), heads=1, compression=COMPRESSION)

NOT_CAUSAL = [heads(FindsItself, "what comes after")]
NOT_ISOLATED = [
    mutant(CrossesDocuments, "itself alone"),
    mutant(HashesPadding, "itself alone"),
    convolution(ConvolvesAcrossDocuments, "itself alone"),
    convolution(ConvolvesPadding, "itself alone"),
    heads(FindsAcrossDocuments, "itself alone"),
]
NOT_SPLIT_INVARIANT = [
    mutant(BeginsEveryCallAnew, "the output: differs"),
    mutant(KeepsOneTokenTooFew, "differs"),
    mutant(HashesRawHistory, "differs", hash=COMPRESSED),
    convolution(ForgetsItsPast, "the output: differs"),
    convolution(KeepsInputsAsTheyCame, "the output: differs"),
    heads(FindsNothingBeforeTheCall, "the output: differs"),
    heads(KeepsOneTokenOnly, "differs"),
]
NOT_BOUNDED = [convolution(KeepsTooMuch, "the state holds")]
NOT_THE_ORACLE = [
    mutant(MultipliesInReverse, "against the oracle: the output"),
    mutant(SharesOneGate, "against the oracle: the output", branches=2),
    convolution(ConvolvesWithoutDilation, "against the oracle: the output"),
    convolution(ReversesTaps, "against the oracle: the output"),
    convolution(NormalisesBranchesTogether, "against the oracle: the output"),
    heads(LooksBeyondTheWindow, "against the oracle: the output"),
    heads(SharesItsVectors, "against the oracle: the output"),
]
