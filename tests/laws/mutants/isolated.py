"""Parts through which documents, rows or padding leak: what law 3 must catch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from everlong import Span
from everlong.sequence.attention import Attention
from everlong.sequence.linear_attention import LinearAttention
from tests.laws.mutants import dilated, engram, experts, infini, mamba, mod, resolution
from tests.laws.mutants.base import FULL, LINEAR, ROPE, Mutant, Toy, toy


class HearsOtherDocuments(Attention):
    def forward(self, x_BTD: Tensor, span: Span, state: Any = None) -> tuple[Tensor, Any]:
        one = torch.zeros_like(span.ids_BT, dtype=torch.bool)
        return super().forward(x_BTD, Span(span.ids_BT, span.position_BT, span.document_BT, one, span.real_BT), state)


class RemembersPadding(LinearAttention):
    def forward(self, x_BTD: Tensor, span: Span, state: Any = None) -> tuple[Tensor, Any]:
        return super().forward(x_BTD, Span(span.ids_BT, span.position_BT, span.document_BT, span.start_BT), state)


class CountsPadding(Attention):
    def forward(self, x_BTD: Tensor, span: Span, state: Any = None) -> tuple[Tensor, Any]:
        place = torch.arange(span.ids_BT.shape[1])[None]
        return super().forward(x_BTD, Span(span.ids_BT, place, span.document_BT, span.start_BT, span.real_BT), state)


class CentresOverRows(Toy):
    def step(self, x_BTD: Tensor, span: Span) -> Tensor:
        return x_BTD - x_BTD.mean(0, keepdim=True)


class AnswersNaNToPadding(Toy):
    def step(self, x_BTD: Tensor, span: Span) -> Tensor:
        return x_BTD if span.real_BT is None else x_BTD.masked_fill(~span.real_BT[..., None], torch.nan)


class HearsPaddingBefore(Toy):
    """The position before, unless a document starts."""

    def step(self, x_BTD: Tensor, span: Span) -> Tensor:
        before = x_BTD.roll(1, 1) * (span.position_BT > 0)[..., None]
        return x_BTD + before


class LeaksInGradientOnly(Toy):
    def step(self, x_BTD: Tensor, span: Span) -> Tensor:
        return x_BTD + x_BTD.mean(0, keepdim=True) - x_BTD.mean(0, keepdim=True).detach()


NOT_ISOLATED = [
    *experts.NOT_ISOLATED,
    *resolution.NOT_ISOLATED,
    *mod.NOT_ISOLATED,
    *dilated.NOT_ISOLATED,
    *engram.NOT_ISOLATED,
    *mamba.NOT_ISOLATED,
    *infini.NOT_ISOLATED,
    Mutant(HearsOtherDocuments, "itself alone", FULL),
    Mutant(RemembersPadding, "itself alone", LINEAR, LinearAttention.Config),
    Mutant(CountsPadding, "itself alone", ROPE),
    toy(CentresOverRows, "itself alone"),
    toy(AnswersNaNToPadding, "not finite"),
    toy(HearsPaddingBefore, "itself alone"),
    toy(LeaksInGradientOnly, "gradient of the input"),
]
