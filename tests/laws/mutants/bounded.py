"""Parts whose state is not as large as they say: what law 4 must catch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from everlong import Span
from everlong.core.state import State
from everlong.sequence.attention import Attention, WindowAttention
from everlong.sequence.cache import KeyValues, join, keep_last
from everlong.sequence.linear_attention import LinearAttention
from tests.laws.mutants import engram, infini, mamba, mod, resolution
from tests.laws.mutants.base import FULL, LINEAR, WINDOW, Mutant


class PinsTheCall(WindowAttention):
    def attend_plain(self, q_BTHE, k_BTGE, v_BTGE, span, state):
        k_BSGE, v_BSGE = join(state, k_BTGE, v_BTGE)
        o_BTHE, new = super().attend_plain(q_BTHE, k_BTGE, v_BTGE, span, state)
        start = k_BSGE.shape[1] - new.k_BSGD.shape[1]
        return o_BTHE, KeyValues(k_BSGE[:, start:], v_BSGE[:, start:])


class NeverTrims(WindowAttention):
    def attend_plain(self, q_BTHE, k_BTGE, v_BTGE, span, state):
        o_BTHE, _ = super().attend_plain(q_BTHE, k_BTGE, v_BTGE, span, state)
        return o_BTHE, keep_last(*join(state, k_BTGE, v_BTGE), None)


class DeclaresKeysOnly(Attention):
    def state_bytes(self, T: int) -> int:
        return super().state_bytes(T) // 2


class Doubled(State):
    state: Any
    spare: Tensor


class KeepsASpareCopy(LinearAttention):
    def forward(self, x_BTD: Tensor, span: Span, state: Any = None) -> tuple[Tensor, Any]:
        y_BTD, new = super().forward(x_BTD, span, state and state.state)
        return y_BTD, Doubled(new, new.s_BHEF.clone())


class KeepsOldDocuments(Attention):
    """Hides them from new queries, but not from the cache."""

    def attend_ragged(self, q_BTHE, k_BTGE, v_BTGE, span, state):
        o_BTHE, _ = super().attend_ragged(q_BTHE, k_BTGE, v_BTGE, span, state)
        return o_BTHE, KeyValues(*join(state, k_BTGE, v_BTGE), torch.full((len(k_BTGE),), k_BTGE.shape[1]))


KEEPS_OLD_DOCUMENTS = Mutant(KeepsOldDocuments, "bytes of vectors", FULL)
NOT_BOUNDED = [
    *resolution.NOT_BOUNDED,
    *mod.NOT_BOUNDED,
    Mutant(PinsTheCall, "the state holds", WINDOW, WindowAttention.Config),
    Mutant(NeverTrims, "the state holds", WINDOW, WindowAttention.Config),
    Mutant(DeclaresKeysOnly, "the state holds", FULL),
    Mutant(KeepsASpareCopy, "the state holds", LINEAR, LinearAttention.Config),
    *engram.NOT_BOUNDED,
    *mamba.NOT_BOUNDED,
    *infini.NOT_BOUNDED,
]
