"""What implementations of LongNet get wrong, each as a part: the laws that must catch them import them from here."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from everlong import Span
from everlong.kernels.attention import attention
from everlong.sequence import dilated_geometry, dilated_look_back, dilated_sinks
from everlong.sequence.dilated import DilatedAttention
from tests.kernels.mutation import mutated
from tests.laws.mutants.base import FULL, Mutant

DILATED: dict[str, Any] = {**FULL, "segment_lengths": (4, 7), "dilations": (1, 3)}
LOOKS_BACK: dict[str, Any] = {**FULL, "segment_lengths": (2, 3), "dilations": (1, 2), "look_back": True}
SINKS: dict[str, Any] = {**DILATED, "sinks": 2}


class DetachesTheMixture(DilatedAttention):
    """Takes the weights of the branches for constants, as `torch.no_grad` around them does."""

    def meet_at(self, q_BTHE, k_BSGE, v_BSGE, pieces, before):
        parts = [attention(q_BTHE, k_BSGE, v_BSGE, (piece,)) for piece in pieces]
        weights = torch.stack([lse for _, lse in parts]).softmax(0)
        return sum(weight[..., None] * out for weight, (out, _) in zip(weights, parts, strict=True))


class _OtherGeometry(DilatedAttention):
    """Dilated attention with one line of its geometry changed."""

    line: tuple[str, str]

    def __init__(self, config: DilatedAttention.Config) -> None:
        super().__init__(config)
        right = self.geometry
        self.geometry = mutated(dilated_geometry, *self.line).Geometry(right.branches, right.heads, right.kv_heads)


class CountsOffsetsFromTheStream(_OtherGeometry):
    """Offsets counted from position 0 and not from the segment's start: another row where r does not divide w."""

    line = (
        "parts = ((0, rest, 1, phase), (rest, w, whole, 0), (stretch.length - tail, tail, 1, 0))",
        "parts = ((i * w, min(w, stretch.length - i * w), 1, i * w) for i in range(whole + 1))",
    )


class ShiftsSegments(_OtherGeometry):
    """Pads segments to a multiple of r and does not crop them: all after the first are shifted."""

    line = ("w, phase = branch.length,", "w, phase = -(-branch.length // branch.dilation) * branch.dilation,")


class ForgetsTheCacheInOffsets(_OtherGeometry):
    """Counts offsets from the first position of the call, whatever the cache holds."""

    line = ("first = (offset - p) % branch.dilation", "first = offset")


class _OtherLookBack(DilatedAttention):
    """Look-back with one line changed."""

    line: tuple[str, str]

    def __init__(self, config: DilatedAttention.Config) -> None:
        super().__init__(config)
        self.geometry = mutated(dilated_look_back, *self.line).LookBack(self.geometry.inner)


class LooksBackWithinTheCall(_OtherLookBack):
    """Sees nothing of the segment before that is in the cache."""

    line = ("if cached:", "if False:")


class ForgetsWhatBecameTheSegmentBefore(_OtherLookBack):
    """Does not move the rows of a segment that ends, so that others stand where they are looked for."""

    line = ("old[i - count if moved else i]", "old[i]")


class LooksBackOnce(_OtherLookBack):
    """Only the second segment of a call sees the one before."""

    line = ("    yield rest + second, w, whole, 0\n", "")


class _OtherSinks(DilatedAttention):
    """Sinks with one line changed."""

    line: tuple[str, str]

    def __init__(self, config: DilatedAttention.Config) -> None:
        super().__init__(config)
        self.geometry = mutated(dilated_sinks, *self.line).Sinks(self.geometry.inner, config.sinks)


class SinksOfTheCall(_OtherSinks):
    """Takes the first positions of the call for those of the document."""

    line = ("held, T = self.held(stretch.position), stretch.length", "held, T = 0, stretch.length")


class SinksSeeAhead(_OtherSinks):
    """Sinks see those after them."""

    line = ("keys, high=0)", "keys)")


class GivesAbsentBranchesMass(DilatedAttention):
    """A branch that does not keep a query has the log-sum-exp 0, not -inf."""

    def meet_at(self, q_BTHE, k_BSGE, v_BSGE, pieces, before):
        parts = [attention(q_BTHE, k_BSGE, v_BSGE, (piece,)) for piece in pieces]
        weights = torch.stack([lse.nan_to_num(neginf=0.0) for _, lse in parts]).softmax(0)
        return sum(weight[..., None] * out for weight, (out, _) in zip(weights, parts, strict=True))


class AttendsPadding(DilatedAttention):
    """Ignores which positions are real."""

    def forward(self, x_BTD: Tensor, span: Span, state: Any = None) -> tuple[Tensor, Any]:
        return super().forward(x_BTD, Span(span.ids_BT, span.position_BT, span.document_BT, span.start_BT), state)


class RunsSegmentsOverDocuments(DilatedAttention):
    """Segments start with the row, not with the document."""

    def forward(self, x_BTD: Tensor, span: Span, state: Any = None) -> tuple[Tensor, Any]:
        none = torch.zeros_like(span.ids_BT, dtype=torch.bool)
        return super().forward(x_BTD, Span(span.ids_BT, span.position_BT, span.document_BT, none, span.real_BT), state)


def _mutants(message: str, *parts: type[DilatedAttention], numbers: dict[str, Any] = DILATED) -> list[Mutant]:
    return [Mutant(part, message, numbers, DilatedAttention.Config) for part in parts]


NOT_THE_ORACLE = [
    *_mutants("auto against the oracle: the gradient", DetachesTheMixture),
    *_mutants(
        "auto against the oracle: the output", CountsOffsetsFromTheStream, ShiftsSegments, GivesAbsentBranchesMass
    ),
    *_mutants("auto against the oracle: the output", LooksBackOnce, numbers=LOOKS_BACK),
    *_mutants("auto against the oracle: the output", SinksSeeAhead, numbers=SINKS),
]
NOT_SPLIT_INVARIANT = [
    *_mutants("the output: differs", ForgetsTheCacheInOffsets),
    *_mutants("the output: differs", LooksBackWithinTheCall, numbers=LOOKS_BACK),
    *_mutants("final state, leaf 0: differs", ForgetsWhatBecameTheSegmentBefore, numbers=LOOKS_BACK),
    *_mutants("the output: differs", SinksOfTheCall, numbers=SINKS),
]
NOT_ISOLATED = [
    *_mutants("itself alone", AttendsPadding, RunsSegmentsOverDocuments),
    *_mutants("itself alone", RunsSegmentsOverDocuments, numbers=LOOKS_BACK),
    *_mutants("itself alone", RunsSegmentsOverDocuments, numbers=SINKS),
]
