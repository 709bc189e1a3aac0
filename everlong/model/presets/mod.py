"""Presets `mod` and `infini-mod`: Mixture-of-Depths on a plain Transformer, and on Infini-attention."""

from __future__ import annotations

from typing import cast

from everlong.core.config import check
from everlong.depth.mixture_of_depths import MixtureOfDepths
from everlong.depth.routing import PredictorRule, Rule
from everlong.model.language_model import LanguageModel
from everlong.model.presets.attention import transformer
from everlong.model.presets.infini import infini
from everlong.model.presets.registry import extending, family
from everlong.model.stack import Stack

PREDICTOR = PredictorRule.Config()
"""The default rule of who is routed in a stream."""


@family()
@extending(transformer)
def mod(
    plain: LanguageModel.Config,
    *,
    every: int = 2,
    capacity: float = 0.125,
    weight: str = "sigmoid",
    rule: Rule.Config = PREDICTOR,
) -> LanguageModel.Config:
    """Full causal attention; the last of every `every` blocks processes a share `capacity` of the positions."""
    return routed(plain, every=every, capacity=capacity, weight=weight, rule=rule)


@family()
@extending(infini)
def infini_mod(
    plain: LanguageModel.Config,
    *,
    every: int = 2,
    capacity: float = 0.125,
    weight: str = "sigmoid",
    rule: Rule.Config = PREDICTOR,
) -> LanguageModel.Config:
    """Infini-attention; the last of every `every` blocks processes a share `capacity` of the positions, and its
    segments and memory hold those only."""
    return routed(plain, every=every, capacity=capacity, weight=weight, rule=rule)


def routed(
    config: LanguageModel.Config,
    *,
    every: int,
    capacity: float,
    weight: str,
    rule: Rule.Config,
) -> LanguageModel.Config:
    """The same stack, the last of every `every` blocks inside a Mixture-of-Depths."""
    stack = cast(Stack.Config, config.body)
    check(1 <= every <= len(stack.blocks), "every", every, f"must lie between 1 and the layers, {len(stack.blocks)}")
    blocks = tuple(
        MixtureOfDepths.Config(width=stack.width, inner=block, capacity=capacity, weight=weight, rule=rule)
        if i % every == every - 1
        else block
        for i, block in enumerate(stack.blocks)
    )
    return config.replace(body=stack.replace(blocks=blocks))
