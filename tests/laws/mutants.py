"""Deliberately broken parts: each law must catch its own, or it catches nothing.

`message` is a part of what the law then says, so that a mutant is caught for its own fault and not for another.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from everlong import Config, Part, Span
from everlong.core.state import State, detach
from everlong.kernels import attention as kernel
from everlong.kernels.pieces import Piece, Pieces, View
from everlong.sequence.attention import Attention, WindowAttention
from everlong.sequence.cache import KeyValues, join, keep_last
from everlong.sequence.linear_attention import LinearAttention, LinearAttentionState
from everlong.sequence.position import Rotary
from tests.laws.catalogue import shake

FULL: dict[str, Any] = {"width": 8, "heads": 2, "kv_heads": 2, "position": None}
ROPE: dict[str, Any] = {**FULL, "position": Rotary.Config()}
WINDOW: dict[str, Any] = {**FULL, "window": 3}
LINEAR: dict[str, Any] = {"width": 8, "heads": 2}


@dataclass(frozen=True, repr=False)
class Mutant:
    """A broken part, with the numbers its configuration needs, and what is said when it is caught."""

    part: Callable[[Any], Part]
    message: str
    numbers: dict[str, Any]
    config: type[Config] = Attention.Config
    width: int = 8

    def make(self) -> Part:
        part = self.part(self.config(**self.numbers)).double()
        shake(part)
        return part

    def __repr__(self) -> str:
        return getattr(self.part, "__name__", str(self.part))


class Toy(Part):
    """A part that is a function; subclasses write `step`."""

    def __init__(self, config: Part.Config) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(config.width))

    def forward(self, x_BTD: Tensor, span: Span, state: Any = None) -> tuple[Tensor, Any]:
        return self.step(x_BTD, span) * self.gain, None

    def step(self, x_BTD: Tensor, span: Span) -> Tensor:
        raise NotImplementedError


def toy(part: type[Toy], message: str) -> Mutant:
    return Mutant(part, message, {"width": 8}, Part.Config)


def future(x_BTD: Tensor) -> Tensor:
    """The sum of what comes after."""
    return x_BTD.flip(1).cumsum(1).flip(1) - x_BTD


# --- Law 1 ----------------------------------------------------------------------------------------------------


class PeeksOneAhead(Attention):
    def plain_pieces(self, B: int, T: int, S: int) -> Pieces:
        return (Piece(View(0, B, T, T), View(0, B, S, S), high=1),)


class CentresOverTime(Toy):
    def step(self, x_BTD: Tensor, span: Span) -> Tensor:
        return x_BTD - x_BTD.mean(1, keepdim=True)


class HearsTheFutureInValueOnly(Toy):
    def step(self, x_BTD: Tensor, span: Span) -> Tensor:
        return x_BTD + future(x_BTD).detach()


class HearsTheFutureInGradientOnly(Toy):
    def step(self, x_BTD: Tensor, span: Span) -> Tensor:
        return x_BTD + future(x_BTD) - future(x_BTD).detach()


class KnowsTheLength(Toy):
    def step(self, x_BTD: Tensor, span: Span) -> Tensor:
        return x_BTD * x_BTD.shape[1]


class LooksUpTheNextToken(Toy):
    def step(self, x_BTD: Tensor, span: Span) -> Tensor:
        return x_BTD + span.ids_BT.roll(-1, 1)[..., None]


NOT_CAUSAL = [
    Mutant(PeeksOneAhead, "what comes after changes", FULL),
    toy(CentresOverTime, "what comes after changes"),
    toy(HearsTheFutureInValueOnly, "what comes after changes"),
    toy(HearsTheFutureInGradientOnly, "has a gradient for the inputs"),
    toy(KnowsTheLength, "what comes after is cut off"),
    toy(LooksUpTheNextToken, "what comes after changes"),
]

# --- Law 2 ----------------------------------------------------------------------------------------------------


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


NOT_SPLIT_INVARIANT = [
    Mutant(ForgetsTheLastRow, "the output: differs", FULL),
    Mutant(RestartsPositions, "the output: differs", ROPE),
    Mutant(KeepsAShortWindow, "the output: differs", WINDOW, WindowAttention.Config),
    Mutant(CutsTheGraph, "the gradient of", FULL),
    Mutant(KeepsAWrongState, "differs", FULL),
    toy(SumsWithinACall, "the output: differs"),
]

# --- Law 3 ----------------------------------------------------------------------------------------------------


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
    Mutant(HearsOtherDocuments, "itself alone", FULL),
    Mutant(RemembersPadding, "itself alone", LINEAR, LinearAttention.Config),
    Mutant(CountsPadding, "itself alone", ROPE),
    toy(CentresOverRows, "itself alone"),
    toy(AnswersNaNToPadding, "not finite"),
    toy(HearsPaddingBefore, "itself alone"),
    toy(LeaksInGradientOnly, "gradient of the input"),
]

# --- Law 4 ----------------------------------------------------------------------------------------------------


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


NOT_BOUNDED = [
    Mutant(PinsTheCall, "the state holds", WINDOW, WindowAttention.Config),
    Mutant(NeverTrims, "the state holds", WINDOW, WindowAttention.Config),
    Mutant(DeclaresKeysOnly, "the state holds", FULL),
    Mutant(KeepsASpareCopy, "the state holds", LINEAR, LinearAttention.Config),
]

# --- Law 5 ----------------------------------------------------------------------------------------------------


def _fast() -> bool:
    return kernel._backend == "auto"


class ForgetsTheScaleWhenFast(Attention):
    def scale_by_distance(self, q_BTHE, k_BSGE, query_index, key_index):
        return (q_BTHE * self.head**0.5 if _fast() else q_BTHE), k_BSGE


class ForgetsTheScale(Attention):
    def scale_by_distance(self, q_BTHE, k_BSGE, query_index, key_index):
        return q_BTHE * self.head**0.5, k_BSGE


class LosesAGradientWhenFast(Attention):
    def scale_by_distance(self, q_BTHE, k_BSGE, query_index, key_index):
        return q_BTHE, k_BSGE.detach() if _fast() else k_BSGE


class RoundsToBfloat16(Attention):
    """Exact in float64, where a lazy test would look."""

    def scale_by_distance(self, q_BTHE, k_BSGE, query_index, key_index):
        if q_BTHE.dtype == torch.float64:
            return q_BTHE, k_BSGE
        return q_BTHE.bfloat16().to(q_BTHE.dtype), k_BSGE.bfloat16().to(k_BSGE.dtype)


class SumsInBfloat16(LinearAttention):
    """The state in the dtype of the input: a long sum stands still."""

    def forward(self, x_BTD: Tensor, span: Span, state: Any = None) -> tuple[Tensor, Any]:
        y_BTD, new = super().forward(x_BTD, span, state)
        return y_BTD, LinearAttentionState(*(x.to(x_BTD.dtype).to(x.dtype) for x in (new.s_BHEF, new.z_BHE)))


class CountsThreads(Toy):
    def step(self, x_BTD: Tensor, span: Span) -> Tensor:
        return x_BTD * torch.get_num_threads()


NOT_PLACEMENT_INVARIANT = [
    Mutant(ForgetsTheScaleWhenFast, "auto against the oracle: the output", FULL),
    Mutant(ForgetsTheScale, "auto against the oracle: the output", FULL),
    Mutant(LosesAGradientWhenFast, "auto against the oracle: the gradient", FULL),
    Mutant(RoundsToBfloat16, "torch.float32 on cpu", FULL),
    Mutant(SumsInBfloat16, "torch.bfloat16 on cpu, 400 calls", LINEAR, LinearAttention.Config),
]

# --- Law 6 ----------------------------------------------------------------------------------------------------


class CountsMaskedPairs(Attention):
    def visible_pairs(self, T: int) -> int:
        return T * T


class ForgetsAProjection(Attention):
    def flops(self, T: int) -> int:
        return super().flops(T) - 2 * T * self.width * self.width


class HintsAtNothing(Attention):
    hints = {"output": None}  # noqa: RUF012


NOT_ACCOUNTED = [
    Mutant(CountsMaskedPairs, "FLOPs, declared", FULL),
    Mutant(ForgetsAProjection, "FLOPs, declared", FULL),
    Mutant(DeclaresKeysOnly, "bytes of state, declared", FULL),
    Mutant(HintsAtNothing, "hints at", FULL),
]
