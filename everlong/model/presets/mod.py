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


def routed(
    plain: LanguageModel.Config,
    *,
    every: int = 2,
    capacity: float = 0.125,
    weight: str = "sigmoid",
    rule: Rule.Config = PREDICTOR,
    router_learning_rate: float = 0.1,
) -> LanguageModel.Config:
    """The same stack, but the last of every `every` blocks processes a share `capacity` of the positions. Segments,
    windows and memories in it hold those only."""
    stack = cast(Stack.Config, plain.body)
    check(1 <= every <= len(stack.blocks), "every", every, f"must lie between 1 and the layers, {len(stack.blocks)}")
    routing = {"capacity": capacity, "weight": weight, "rule": rule, "router_learning_rate": router_learning_rate}
    blocks = tuple(
        MixtureOfDepths.Config(width=stack.width, inner=block, **routing) if i % every == every - 1 else block
        for i, block in enumerate(stack.blocks)
    )
    return plain.replace(body=stack.replace(blocks=blocks))


family("mod")(extending(transformer)(routed))
family("infini-mod")(extending(infini)(routed))
