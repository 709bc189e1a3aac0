"""Presets `moe` and `engram-moe`: experts in a plain Transformer, and beside n-gram memory."""

from __future__ import annotations

from typing import cast

from everlong.core.config import check
from everlong.model.language_model import LanguageModel
from everlong.model.presets.attention import transformer
from everlong.model.presets.engram import PAPER as MEMORY
from everlong.model.presets.engram import engram
from everlong.model.presets.registry import extending, family
from everlong.model.stack import Block, Stack
from everlong.width.experts import Experts
from everlong.width.experts_balance import Balance, BiasBalance
from everlong.width.noop_experts import NoOpExperts
from everlong.width.swiglu import SwiGLU

BIAS = BiasBalance.Config()
"""The default of what keeps the load even."""

BODY = {"layers": 30, "width": 2560, "heads": 32, "vocabulary": 129_280, "hidden": 12_288}
CHOICE = {"active": 6, "shared": 2, "dense": 1}
"""Bodies of the Engram paper's large models (arXiv 2601.07372, table 5). The size of an expert, an eighth of `hidden`,
is not told there: it is the one that makes the total the paper's. Attention is full, where the paper's is latent, in
one residual stream, where the paper has four."""


@family(**{"27b": {**BODY, **CHOICE, "experts": 72}})
@extending(transformer)
def moe(
    plain: LanguageModel.Config,
    *,
    experts: int = 16,
    active: int = 3,
    shared: int = 1,
    dense: int = 1,
    noops: int = 0,
    score: str = "sigmoid",
    balance: Balance.Config = BIAS,
) -> LanguageModel.Config:
    """Full causal attention; experts in all blocks but the first `dense`, as many FLOPs as the feed-forward of size
    `hidden` in their place.

    Args:
        noops: experts among the others that do nothing (integrated Mixture-of-Depths-and-Experts).
    """
    chosen = {"experts": experts, "active": active, "shared": shared, "dense": dense, "noops": noops}
    return with_experts(plain, **chosen, score=score, balance=balance)


@family(
    **{
        "27b": {**MEMORY, **BODY, **CHOICE, "experts": 55, "rows": 2_262_400},
        "40b": {**MEMORY, **BODY, **CHOICE, "experts": 55, "rows": 7_239_680},
    }
)
@extending(engram)
def engram_moe(
    plain: LanguageModel.Config,
    *,
    experts: int = 16,
    active: int = 3,
    shared: int = 1,
    dense: int = 1,
    score: str = "sigmoid",
    balance: Balance.Config = BIAS,
) -> LanguageModel.Config:
    """Attention to the last `window` positions, n-gram memory before some of the blocks, and experts in all blocks but
    the first `dense`."""
    return with_experts(plain, experts=experts, active=active, shared=shared, dense=dense, score=score, balance=balance)


def with_experts(
    config: LanguageModel.Config,
    *,
    experts: int,
    active: int,
    shared: int,
    dense: int,
    score: str,
    balance: Balance.Config,
    noops: int = 0,
) -> LanguageModel.Config:
    """The same stack with experts for the SwiGLU of its blocks, all but the first `dense`. The active and the shared
    ones together are as large as what they replace, rounded up to what grouped products take, multiples of 8."""
    stack = cast(Stack.Config, config.body)
    places = [i for i, block in enumerate(stack.blocks) if isinstance(block, Block.Config)]
    remedy = f"must lie between 0 and {len(places) - 1}, so that a block is left for experts"
    check(0 <= dense < len(places), "dense", dense, remedy)
    check(active >= 1 and shared >= 0, "active, shared", (active, shared), "must be at least 1, and 0")

    def replaced(block: Block.Config) -> Block.Config:
        hidden = cast(SwiGLU.Config, block.feed_forward).hidden
        numbers = {"width": stack.width, "experts": experts, "active": active, "shared": shared}
        size = -(-hidden // (active + shared) // 8) * 8
        common = {**numbers, "hidden": size, "score": score, "balance": balance}
        feed_forward = NoOpExperts.Config(**common, noops=noops) if noops else Experts.Config(**common)
        return block.replace(feed_forward=feed_forward)

    blocks = [
        replaced(block) if isinstance(block, Block.Config) and i in places[dense:] else block
        for i, block in enumerate(stack.blocks)
    ]
    return config.replace(body=stack.replace(blocks=tuple(blocks)))
