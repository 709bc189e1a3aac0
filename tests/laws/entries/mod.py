"""Entries of Mixture-of-Depths, around every kind of block."""

from __future__ import annotations

import random
from typing import Any

import torch
from torch import Tensor

from everlong import Config, Part, Span
from everlong.depth.mixture_of_depths import MixtureOfDepths
from everlong.depth.routing import PredictorRule, RouterRule, Rule, share
from everlong.model.stack import Block, Residual
from everlong.sequence.attention import Attention, WindowAttention
from everlong.sequence.blockwise import BlockwiseAttention
from everlong.sequence.dilated import DilatedAttention
from everlong.sequence.infini import InfiniAttention
from everlong.sequence.linear_attention import LinearAttention
from everlong.sequence.sparse import SparseAttention
from everlong.width.experts import Experts
from everlong.width.experts_balance import BiasBalance
from tests.laws.entries.engram import engram
from tests.laws.entries.shared import FULL, SHARED, SINGLE, block, stack

PREDICTOR = PredictorRule.Config(weight=1.0, hidden=5)
ROUTER = RouterRule.Config(weight=1.0)
MEMORY = Residual.Config(width=8, inner=engram(orders=(2, 3), heads=2))

EXPERTS = Block.Config(
    width=8,
    mixer=WindowAttention.Config(**FULL, window=3),
    feed_forward=Experts.Config(width=8, hidden=6, experts=4, active=2, balance=BiasBalance.Config(weight=1.0)),
)


def mod(
    inner: Part.Config, *, capacity: float = 0.5, weight: str = "sigmoid", rule: Rule.Config = PREDICTOR
) -> MixtureOfDepths.Config:
    """A block of which only some positions are shown."""
    return MixtureOfDepths.Config(width=inner.width, inner=inner, capacity=capacity, weight=weight, rule=rule)


PARTS: dict[str, Config] = {
    "depths, attention, RoPE": mod(block(Attention.Config(**SHARED))),
    "depths, attention, xPos": mod(block(Attention.Config(**SINGLE)), capacity=0.3),
    "depths, window of 3": mod(block(WindowAttention.Config(**SHARED, window=3)), weight="linear"),
    "depths, sparse, by the router": mod(
        block(SparseAttention.Config(**FULL, block=3, summary=1)), rule=ROUTER, capacity=0.75
    ),
    "depths, sparse, xPos": mod(block(SparseAttention.Config(**SINGLE, block=2, summary=1)), weight="linear"),
    "depths, dilated": mod(block(DilatedAttention.Config(**SHARED, segment_lengths=(2, 5), dilations=(1, 2)))),
    "depths, dilated, xPos": mod(block(DilatedAttention.Config(**SINGLE, segment_lengths=(2, 3), dilations=(1, 2)))),
    "depths, blockwise": mod(block(BlockwiseAttention.Config(**SHARED, block=2))),
    "depths, linear attention, by the router": mod(block(LinearAttention.Config(width=8, heads=2)), rule=ROUTER),
    "depths, infini": mod(block(InfiniAttention.Config(**SHARED, segment=3))),
    "depths, all positions": mod(block(Attention.Config(**FULL)), capacity=1.0),
    "depths and experts": mod(EXPERTS),
    "depths, engram": mod(MEMORY),
    "depths, stack with engram": mod(stack(MEMORY, block(Attention.Config(**FULL)))),
    "stack of depths": stack(
        mod(block(Attention.Config(**SHARED)), rule=ROUTER),
        block(WindowAttention.Config(**SHARED, window=3)),
        mod(block(LinearAttention.Config(width=16, heads=2)), capacity=0.25),
    ),
}

SHRUNK: dict[str, dict[str, Any]] = {
    "mod": {"every": 1, "capacity": 0.5, "rule": PREDICTOR},
    "infini-mod": {"every": 1, "capacity": 0.5, "rule": PREDICTOR, "segment": 4},
}


def depths(draw: random.Random, shape: dict[str, Any]) -> Part.Config:
    """Attention or linear attention, for some positions."""
    mixer = draw.choice([Attention.Config(**shape), LinearAttention.Config(width=shape["width"], heads=shape["heads"])])
    return mod(block(mixer), capacity=draw.choice([0.2, 0.5]), rule=draw.choice([PREDICTOR, ROUTER]))


MIXERS = [depths]


def at_capacity(part: MixtureOfDepths) -> None:
    """Routes position t of a document where the share of t + 1 positions is one more than that of t."""
    by_rule = part.choose

    def choose(x_BTD: Tensor, span: Span) -> Tensor:
        by_rule(x_BTD, span)  # what it costs to decide
        shares = torch.tensor([share(part.capacity, t) for t in range(int(span.position_BT.max()) + 2)])
        routed_BT = (shares.diff() > 0)[span.position_BT].expand_as(span.ids_BT)
        return routed_BT if span.real_BT is None else routed_BT & span.real_BT

    part.choose = choose  # type: ignore[method-assign]


NOMINAL = {MixtureOfDepths: at_capacity}
