"""Entries of experts."""

from __future__ import annotations

import random
from typing import Any

import torch
from torch import Tensor

from everlong import Config, Part
from everlong.model.stack import Block
from everlong.sequence.attention import WindowAttention
from everlong.width.experts import Experts
from everlong.width.experts_balance import BiasBalance, LossBalance
from everlong.width.noop_experts import NoOpExperts
from tests.laws.entries.shared import SHARED

BIAS, LOSS = BiasBalance.Config(weight=1.0), LossBalance.Config(weight=1.0)
SIXTEEN: dict[str, Any] = {"width": 8, "hidden": 16}  # so that the fast form takes bfloat16 too

PARTS: dict[str, Config] = {
    "experts": Experts.Config(**SIXTEEN, experts=5, active=2, shared=1, balance=BIAS),
    "experts, softmax": Experts.Config(
        width=8, hidden=6, experts=4, active=3, score="softmax", scale=2.5, balance=BIAS
    ),
    "experts, one active": Experts.Config(width=8, hidden=12, experts=3, active=1, shared=2, balance=LOSS),
    "experts, softmax, one active": Experts.Config(**SIXTEEN, experts=4, active=1, score="softmax", balance=LOSS),
    "experts, all active": Experts.Config(width=8, hidden=5, experts=3, active=3, balance=LOSS),
    "experts, some no-ops": NoOpExperts.Config(**SIXTEEN, experts=4, noops=4, active=2, shared=1, balance=BIAS),
    "block of experts": Block.Config(
        width=16,
        mixer=WindowAttention.Config(**SHARED, window=3),
        feed_forward=Experts.Config(width=16, hidden=8, experts=6, active=2, balance=BIAS),
    ),
}

SHRUNK: dict[str, dict[str, Any]] = {
    "moe": {"dense": 0, "experts": 5, "active": 2, "balance": BIAS},
    "engram-moe": {"window": 5, "memory_layers": (0,), "orders": (2, 4), "rows": 7, "row_width": 3}
    | {"dense": 0, "experts": 5, "active": 2, "balance": BIAS},
}


def experts(draw: random.Random, shape: dict[str, Any]) -> Part.Config:
    """Any number of experts, of which any are active."""
    count = draw.randint(1, 5)
    return Experts.Config(
        width=shape["width"],
        hidden=draw.choice([5, 16]),
        experts=count,
        active=draw.randint(1, count),
        shared=draw.randint(0, 1),
        score=draw.choice(["sigmoid", "softmax"]),
    )


MIXERS = [experts]


def at_nominal_rate(part: NoOpExperts) -> None:
    """Every position chooses the nominal number of experts that compute, a whole one here, and no-ops besides."""
    by_scores, real = part.choose, part.computed(1)
    assert part.computed(7) == 7 * real
    chosen = [*range(real), *range(part.experts, part.experts + part.active - real)]

    def choose(score_NE: Tensor) -> Tensor:
        return torch.tensor(chosen).expand_as(by_scores(score_NE))

    part.choose = choose  # type: ignore[method-assign]


NOMINAL = {NoOpExperts: at_nominal_rate}
