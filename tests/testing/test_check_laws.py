"""`check_laws`, on parts that break one law each, and on one that keeps them all."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from everlong import Part, Span, State
from everlong.core.accounting import linear_flops
from everlong.memory.lags import lagged
from everlong.testing import check_laws


class Last(State):
    x_B1D: Tensor


class Pairs(Part):
    """The sum of a position and the one before, projected."""

    class Config(Part.Config):
        pass

    def __init__(self, config: Pairs.Config) -> None:
        super().__init__()
        self.out = nn.Linear(config.width, config.width, bias=False)

    def forward(self, x_BTD: Tensor, span: Span, state: Last | None = None) -> tuple[Tensor, Any]:
        before = None if state is None else state.x_B1D
        (now, earlier), last = lagged(x_BTD, span, before, [0, 1], kept=1, fill=0.0)
        return self.out(now + earlier), Last(last)

    def flops(self, T: int) -> int:
        return linear_flops(self.out, T=T)

    def state_bytes(self, T: int) -> int:
        return self.out.in_features * self.out.weight.element_size()


class HearsTheNext(Pairs):
    class Config(Pairs.Config):
        pass

    def forward(self, x_BTD: Tensor, span: Span, state: Last | None = None) -> tuple[Tensor, Any]:
        y_BTD, state = super().forward(x_BTD, span, state)
        return y_BTD + x_BTD.roll(-1, 1), state


class ForgetsTheState(Pairs):
    class Config(Pairs.Config):
        pass

    def forward(self, x_BTD: Tensor, span: Span, state: Last | None = None) -> tuple[Tensor, Any]:
        return super().forward(x_BTD, span, None)


class RunsOverDocuments(Pairs):
    class Config(Pairs.Config):
        pass

    def forward(self, x_BTD: Tensor, span: Span, state: Last | None = None) -> tuple[Tensor, Any]:
        joined = span if span.start_BT is None else replace(span, start_BT=torch.zeros_like(span.start_BT))
        return super().forward(x_BTD, joined, state)


class KeepsTooMuch(Pairs):
    class Config(Pairs.Config):
        pass

    def forward(self, x_BTD: Tensor, span: Span, state: Last | None = None) -> tuple[Tensor, Any]:
        y_BTD, after = super().forward(x_BTD, span, state)
        return y_BTD, Last(torch.cat([after.x_B1D] * 2, 1)[:, :1])


class RoundsInOneCall(Pairs):
    class Config(Pairs.Config):
        pass

    def forward(self, x_BTD: Tensor, span: Span, state: Last | None = None) -> tuple[Tensor, Any]:
        y_BTD, state = super().forward(x_BTD, span, state)
        return y_BTD.bfloat16().to(y_BTD.dtype) if y_BTD.dtype == torch.float32 else y_BTD, state


class CountsTooFew(Pairs):
    class Config(Pairs.Config):
        pass

    def flops(self, T: int) -> int:
        return super().flops(T) - 2


BROKEN = {
    HearsTheNext: "not causal",
    ForgetsTheState: "not split-invariant",
    RunsOverDocuments: "not isolated",
    KeepsTooMuch: "not bounded",
    RoundsInOneCall: "not placement-invariant",
    CountsTooFew: "not accounted",
}


def test_what_keeps_them_passes() -> None:
    check_laws(Pairs.Config(width=8))


@pytest.mark.parametrize("part", BROKEN, ids=lambda part: part.__name__)
def test_catches(part: type[Pairs]) -> None:
    with pytest.raises(AssertionError, match=BROKEN[part]):
        check_laws(part.Config(width=8))


def test_an_oracle_is_the_measure() -> None:
    with pytest.raises(AssertionError, match="against the oracle: the output"):
        check_laws(Pairs.Config(width=8), oracle=lambda weights, stream: stream.x_BTD @ weights["out.weight"].T)


def test_a_nominal_rate_is_taken_before_costs_are_counted() -> None:
    def idle(part: Part) -> None:
        part.flops = lambda T: 0  # type: ignore[method-assign]

    with pytest.raises(AssertionError, match="declared are 0"):
        check_laws(Pairs.Config(width=8), nominal=idle)
