"""Parts that notice where a stream is cut: what law 2 must catch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from everlong import Span
from everlong.core.state import detach
from everlong.sequence.attention import Attention, WindowAttention
from everlong.sequence.cache import KeyValues
from everlong.sequence.linear_attention import LinearAttention
from tests.laws.mutants import dilated, engram, experts, infini, mamba, mod, resolution
from tests.laws.mutants.base import FULL, LINEAR, ROPE, WINDOW, Mutant, Toy, toy


class ForgetsTheLastRow(Attention):
    def attend_plain(self, q_BTHE, k_BTGE, v_BTGE, span, state):
        o_BTHE, state = super().attend_plain(q_BTHE, k_BTGE, v_BTGE, span, state)
        return o_BTHE, KeyValues(state.k_BSGD[:, :-1], state.v_BSGD[:, :-1])


class RestartsPositions(Attention):
    def forward(self, x_BTD: Tensor, span: Span, state: Any = None) -> tuple[Tensor, Any]:
        return super().forward(x_BTD, Span.plain_from(span.ids_BT), state)


class KeepsAShortWindow(WindowAttention):
    @property
    def cache_rows(self) -> int:
        return self.window - 2


class CutsTheGraph(Attention):
    def attend_plain(self, q_BTHE, k_BTGE, v_BTGE, span, state):
        return super().attend_plain(q_BTHE, k_BTGE, v_BTGE, span, detach(state))


class KeepsAWrongState(Attention):
    """Answers well as long as nobody goes on after the last call."""

    def attend_plain(self, q_BTHE, k_BTGE, v_BTGE, span, state):
        o_BTHE, new = super().attend_plain(q_BTHE, k_BTGE, v_BTGE, span, state)
        return o_BTHE, new if state is None else KeyValues(new.k_BSGD, new.v_BSGD * 1.001)


class SumsWithinACall(Toy):
    def step(self, x_BTD: Tensor, span: Span) -> Tensor:
        return x_BTD.cumsum(1)


class TakesEveryRowForFull(Attention):
    """After a ragged call, holes in the cache count as positions."""

    def attend_ragged(self, q_BTHE, k_BTGE, v_BTGE, span, state):
        o_BTHE, new = super().attend_ragged(q_BTHE, k_BTGE, v_BTGE, span, state)
        return o_BTHE, KeyValues(new.k_BSGD, new.v_BSGD, torch.full((len(k_BTGE),), new.k_BSGD.shape[1]))


class BeginsADocumentEveryCall(LinearAttention):
    def forward(self, x_BTD: Tensor, span: Span, state: Any = None) -> tuple[Tensor, Any]:
        return super().forward(x_BTD, span, state if span.plain else None)


NOT_SPLIT_INVARIANT_RAGGED = [
    *mamba.NOT_SPLIT_INVARIANT_RAGGED,
    Mutant(TakesEveryRowForFull, "the output: differs", FULL),
    Mutant(BeginsADocumentEveryCall, "the output: differs", LINEAR, LinearAttention.Config),
]
NOT_SPLIT_INVARIANT = [
    *experts.NOT_SPLIT_INVARIANT,
    *resolution.NOT_SPLIT_INVARIANT,
    *mod.NOT_SPLIT_INVARIANT,
    *dilated.NOT_SPLIT_INVARIANT,
    *engram.NOT_SPLIT_INVARIANT,
    *mamba.NOT_SPLIT_INVARIANT,
    *infini.NOT_SPLIT_INVARIANT,
    Mutant(ForgetsTheLastRow, "the output: differs", FULL),
    Mutant(RestartsPositions, "the output: differs", ROPE),
    Mutant(KeepsAShortWindow, "the output: differs", WINDOW, WindowAttention.Config),
    Mutant(CutsTheGraph, "the gradient of", FULL),
    Mutant(KeepsAWrongState, "differs", FULL),
    toy(SumsWithinACall, "the output: differs"),
]
