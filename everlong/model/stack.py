"""Blocks and stacks.

A block is pre-norm residual: x + mixer(norm(x)), then x + feed_forward(norm(x)). A stack is blocks and a last norm.
Both are parts, so either stands wherever a part may.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from everlong.core.config import check
from everlong.core.errors import ContextError
from everlong.core.norm import RMSNorm
from everlong.core.part import Part
from everlong.core.span import Span


class Block(Part):
    """Two residual branches. State: that of the mixer and of the feed-forward."""

    class Config(Part.Config):
        mixer: Part.Config
        """Mixes along the sequence."""
        feed_forward: Part.Config
        """Acts on the width."""
        eps: float = 1e-6
        """What the norms add to the mean square."""

    def __init__(self, config: Block.Config) -> None:
        super().__init__()
        for name in ("mixer", "feed_forward"):
            width = getattr(config, name).width
            check(
                width == config.width,
                f"block.{name}.width",
                width,
                f"must be the block's width, {config.width}",
            )
        self.mixer_norm, self.mixer = RMSNorm(config.width, config.eps), config.mixer.build()
        self.feed_forward_norm, self.feed_forward = RMSNorm(config.width, config.eps), config.feed_forward.build()

    def forward(
        self, x_BTD: Float[Tensor, "b t d"], span: Span, state: tuple[Any, Any] | None = None
    ) -> tuple[Float[Tensor, "b t d"], tuple[Any, Any]]:
        mixer_state, feed_forward_state = state or (None, None)
        y_BTD, mixer_state = self.mixer(self.mixer_norm(x_BTD), span, mixer_state)
        x_BTD = x_BTD + y_BTD
        y_BTD, feed_forward_state = self.feed_forward(self.feed_forward_norm(x_BTD), span, feed_forward_state)
        return x_BTD + y_BTD, (mixer_state, feed_forward_state)

    def flops(self, T: int) -> int:
        return self.mixer.flops(T) + self.feed_forward.flops(T)

    def state_bytes(self, T: int) -> int:
        return self.mixer.state_bytes(T) + self.feed_forward.state_bytes(T)

    def residual_writers(self) -> list[nn.Linear]:
        return self.mixer.residual_writers() + self.feed_forward.residual_writers()


class Residual(Part):
    """x + inner(x): one residual branch around a part that normalises for itself what it reads. State: the part's."""

    class Config(Part.Config):
        inner: Part.Config
        """What is added."""

    def __init__(self, config: Residual.Config) -> None:
        super().__init__()
        remedy = f"must be the branch's width, {config.width}"
        check(config.inner.width == config.width, "residual.inner.width", config.inner.width, remedy)
        self.inner = config.inner.build()

    def forward(
        self, x_BTD: Float[Tensor, "b t d"], span: Span, state: Any = None
    ) -> tuple[Float[Tensor, "b t d"], Any]:
        y_BTD, state = self.inner(x_BTD, span, state)
        return x_BTD + y_BTD, state

    def flops(self, T: int) -> int:
        return self.inner.flops(T)

    def state_bytes(self, T: int) -> int:
        return self.inner.state_bytes(T)

    def residual_writers(self) -> list[nn.Linear]:
        return self.inner.residual_writers()


class Stack(Part):
    """Parts one after the other, then a norm. State: a tuple, one state a part."""

    class Config(Part.Config):
        blocks: tuple[Part.Config, ...]
        """The parts, from input to output."""
        eps: float = 1e-6
        """What the last norm adds to the mean square."""

    def __init__(self, config: Stack.Config) -> None:
        super().__init__()
        check(len(config.blocks) >= 1, "stack.blocks", config.blocks, "must hold at least one part")
        for i, block in enumerate(config.blocks):
            remedy = f"must be the stack's width, {config.width}"
            check(block.width == config.width, f"stack.blocks[{i}].width", block.width, remedy)
        self.blocks = nn.ModuleList(block.build() for block in config.blocks)
        self.norm = RMSNorm(config.width, config.eps)
        writers = self.residual_writers()
        with torch.no_grad():  # so that the sum of all branches starts at the size of one (Radford et al. 2019)
            for layer in writers:
                layer.weight.mul_(1 / math.sqrt(len(writers)))

    def forward(
        self, x_BTD: Float[Tensor, "b t d"], span: Span, state: tuple[Any, ...] | None = None
    ) -> tuple[Float[Tensor, "b t d"], tuple[Any, ...]]:
        if state is not None and len(state) != len(self.blocks):
            remedy = f"this stack has {len(self.blocks)}; pass what this very model returned"
            raise ContextError("state", f"states of {len(state)} parts", remedy)
        states = []
        for block, before in zip(self.blocks, state or (None,) * len(self.blocks), strict=True):
            x_BTD, after = block(x_BTD, span, before)
            states.append(after)
        return self.norm(x_BTD), tuple(states)

    def flops(self, T: int) -> int:
        return sum(part.flops(T) for part in self.parts)

    def state_bytes(self, T: int) -> int:
        return sum(part.state_bytes(T) for part in self.parts)

    def residual_writers(self) -> list[nn.Linear]:
        return [layer for part in self.parts for layer in part.residual_writers()]

    @property
    def parts(self) -> Iterable[Part]:
        """The blocks, with their type."""
        return cast(Iterable[Part], self.blocks)
