"""What implementations of Mixture-of-Depths get wrong: each mutant is caught by a law."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from everlong import Span
from everlong.depth.mixture_of_depths import MixtureOfDepths
from everlong.depth.routing import Routed, best, first, score
from everlong.sequence.attention import Attention
from tests.laws.entries.mod import at_capacity, mod
from tests.laws.entries.shared import SHARED, block
from tests.laws.mutants.base import Mutant

CONFIG = mod(block(Attention.Config(**SHARED)))
NUMBERS: dict[str, Any] = {name: getattr(CONFIG, name) for name in vars(CONFIG)}


class DecodesByItsBest(MixtureOfDepths):
    """Routes the best of whatever a call brings: knows the future, and at decode takes every token for the best."""

    def choose(self, x_BTD: Tensor, span: Span) -> Tensor:
        return best(score(self.router, x_BTD), self.capacity, span)


class CountsPlacesAnew(MixtureOfDepths):
    """Turns by the place among the routed positions instead of the true one."""

    def forward(self, x_BTD: Tensor, span: Span, state: Any = None) -> tuple[Tensor, Any]:
        routed_BT = self.choose(x_BTD, span)
        return super().forward(x_BTD, replace(span, position_BT=routed_BT.cumsum(1) - 1), state)

    def choose(self, x_BTD: Tensor, span: Span) -> Tensor:
        return (self.rule(x_BTD, self.router) > 0) | (torch.arange(x_BTD.shape[1]) == 0)


class KeepsTheUnrouted(MixtureOfDepths):
    """Shows the block all positions, and drops what it says of those that are not routed."""

    def forward(self, x_BTD: Tensor, span: Span, state: Any = None) -> tuple[Tensor, Any]:
        y_BTD, state = self.inner(x_BTD, span, state)
        weight_BT1 = (torch.sigmoid(score(self.router, x_BTD)) * self.choose(x_BTD, span))[..., None]
        return torch.lerp(x_BTD, y_BTD, weight_BT1), state


class LeavesTheRouterUntaught(MixtureOfDepths):
    """The score chooses, and does not weigh: the loss tells the router nothing."""

    def forward(self, x_BTD: Tensor, span: Span, state: Any = None) -> tuple[Tensor, Any]:
        self.router.requires_grad_(False)
        y_BTD, state = super().forward(x_BTD, span, state)
        self.router.requires_grad_(True)
        return y_BTD, state


class AddsTheResidualTwice(MixtureOfDepths):
    """Adds what the block returns, its own residual included."""

    def forward(self, x_BTD: Tensor, span: Span, state: Any = None) -> tuple[Tensor, Any]:
        y_BTD, state = super().forward(x_BTD, span, state)
        weight_BT1 = (torch.sigmoid(score(self.router, x_BTD)) * self.choose(x_BTD, span))[..., None]
        return y_BTD + weight_BT1 * x_BTD, state


class RoutesPadding(MixtureOfDepths):
    def forward(self, x_BTD: Tensor, span: Span, state: Any = None) -> tuple[Tensor, Any]:
        return super().forward(x_BTD, replace(span, real_BT=None), state)


class HidesBeginnings(MixtureOfDepths):
    """Routes a document's first position like any other: the block may not hear that a document began."""

    def choose(self, x_BTD: Tensor, span: Span) -> Tensor:
        routed_BT = self.rule(x_BTD, self.router) > 0
        return routed_BT & ~first(span) & (span.real_BT if span.real_BT is not None else True)


class DeclaresTheWholeBlock(MixtureOfDepths):
    """Declares the cost of a block that processes every position."""

    def flops(self, T: int) -> int:
        return self.inner.flops(T)


class WeighsByItsNeighbours(MixtureOfDepths):
    """A softmax over the routed positions: one's weight depends on those that come later."""

    def forward(self, x_BTD: Tensor, span: Span, state: Any = None) -> tuple[Tensor, Any]:
        routed_BT = self.choose(x_BTD, span)
        routed = Routed.of(routed_BT, routed_BT.sum(1).tolist(), span)
        x_BRD = routed.take(x_BTD)
        y_BRD, state = self.inner(x_BRD, routed.span, state)
        return routed.put(x_BTD, torch.lerp(x_BRD, y_BRD, score(self.router, x_BRD).softmax(1)[..., None])), state


def mutant(part: type[MixtureOfDepths], message: str, *, nominal: bool = False) -> Mutant:
    def build(config: MixtureOfDepths.Config) -> MixtureOfDepths:
        made = part(config).eval()
        if nominal:
            at_capacity(made)
        return made

    build.__name__ = part.__name__
    return Mutant(build, message, NUMBERS, MixtureOfDepths.Config, width=16)


NOT_CAUSAL = [
    mutant(DecodesByItsBest, "what comes after"),
    mutant(WeighsByItsNeighbours, "what comes after"),
]
NOT_SPLIT_INVARIANT = [mutant(DecodesByItsBest, "the output: differs")]
NOT_ISOLATED = [mutant(RoutesPadding, "not isolated"), mutant(HidesBeginnings, "itself alone")]
NOT_BOUNDED = [mutant(KeepsTheUnrouted, "the state holds", nominal=True)]
NOT_THE_ORACLE = [
    mutant(CountsPlacesAnew, "against the oracle: the output"),
    mutant(KeepsTheUnrouted, "against the oracle: the output"),
    mutant(AddsTheResidualTwice, "against the oracle: the output"),
    mutant(LeavesTheRouterUntaught, "the gradient of router.weight"),
]
NOT_ACCOUNTED = [mutant(DeclaresTheWholeBlock, "FLOPs, declared", nominal=True)]
