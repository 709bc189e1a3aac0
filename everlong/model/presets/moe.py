"""Presets `moe` and `engram-moe`: experts in a plain Transformer, and beside n-gram memory."""

from __future__ import annotations

from typing import cast

from everlong.core.config import check
from everlong.model.language_model import LanguageModel
from everlong.model.presets.attention import transformer
from everlong.model.presets.decoder import BYTES, ROPE
from everlong.model.presets.engram import engram
from everlong.model.presets.registry import family
from everlong.model.stack import Block, Stack
from everlong.sequence.position import Position
from everlong.width.experts import Experts
from everlong.width.experts_balance import Balance, BiasBalance
from everlong.width.swiglu import SwiGLU

BIAS = BiasBalance.Config()
"""The default of what keeps the load even."""


@family()
def moe(
    *,
    layers: int,
    width: int,
    heads: int,
    kv_heads: int | None = None,
    position: Position | None = ROPE,
    experts: int = 16,
    active: int = 3,
    shared: int = 1,
    dense: int = 1,
    score: str = "sigmoid",
    balance: Balance.Config = BIAS,
    hidden: int | None = None,
    vocabulary: int = BYTES,
    context_limit: int | None = None,
) -> LanguageModel.Config:
    """Full causal attention; experts in all blocks but the first `dense`, as many FLOPs as the feed-forward of size
    `hidden` in their place."""
    plain = transformer(
        layers=layers,
        width=width,
        heads=heads,
        kv_heads=kv_heads,
        position=position,
        hidden=hidden,
        vocabulary=vocabulary,
        context_limit=context_limit,
    )
    return with_experts(plain, experts=experts, active=active, shared=shared, dense=dense, score=score, balance=balance)


@family()
def engram_moe(
    *,
    layers: int,
    width: int,
    heads: int,
    kv_heads: int | None = None,
    position: Position | None = ROPE,
    window: int = 256,
    memory_layers: tuple[int, ...] = (1,),
    orders: tuple[int, ...] = (2, 3, 4, 5, 6),
    rows: int = 2**15,
    hash_heads: int = 1,
    row_width: int = 32,
    experts: int = 16,
    active: int = 3,
    shared: int = 1,
    dense: int = 1,
    score: str = "sigmoid",
    balance: Balance.Config = BIAS,
    hidden: int | None = None,
    vocabulary: int = BYTES,
    context_limit: int | None = None,
) -> LanguageModel.Config:
    """Attention to the last `window` positions, n-gram memory before some of the blocks, and experts in all blocks but
    the first `dense`."""
    plain = engram(
        layers=layers,
        width=width,
        heads=heads,
        kv_heads=kv_heads,
        position=position,
        window=window,
        memory_layers=memory_layers,
        orders=orders,
        rows=rows,
        hash_heads=hash_heads,
        row_width=row_width,
        hidden=hidden,
        vocabulary=vocabulary,
        context_limit=context_limit,
    )
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
        feed_forward = Experts.Config(
            width=stack.width,
            experts=experts,
            active=active,
            hidden=-(-hidden // (active + shared) // 8) * 8,
            shared=shared,
            score=score,
            balance=balance,
        )
        return block.replace(feed_forward=feed_forward)

    blocks = [
        replaced(block) if isinstance(block, Block.Config) and i in places[dense:] else block
        for i, block in enumerate(stack.blocks)
    ]
    return config.replace(body=stack.replace(blocks=tuple(blocks)))
