"""Blocks and stacks: widths must agree, and branches start small enough."""

from __future__ import annotations

import math

import pytest
import torch

from everlong import Span
from everlong.core.errors import ConfigError, ContextError
from everlong.model.stack import Block, Stack
from everlong.sequence.attention import Attention
from everlong.width.swiglu import SwiGLU

MIXER = Attention.Config(width=8, heads=2, kv_heads=2, position=None)
FEED_FORWARD = SwiGLU.Config(width=8, hidden=12)
BLOCK = Block.Config(width=8, mixer=MIXER, feed_forward=FEED_FORWARD)


@pytest.mark.parametrize(
    ("config", "named"),
    [
        (Block.Config(width=6, mixer=MIXER, feed_forward=FEED_FORWARD), r"block.mixer.width = 8: must be .* 6"),
        (
            Block.Config(width=8, mixer=MIXER, feed_forward=FEED_FORWARD.replace(width=4)),
            r"block.feed_forward.width = 4: must be .* 8",
        ),
        (Stack.Config(width=8, blocks=(BLOCK, MIXER.replace(width=16))), r"stack.blocks\[1\].width = 16: must be .* 8"),
        (Stack.Config(width=8, blocks=()), r"stack.blocks = \(\): must hold at least one part"),
    ],
)
def test_wrong_numbers_are_named(config: Block.Config | Stack.Config, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        config.build()


@pytest.mark.parametrize("layers", [1, 4])
def test_branches_are_scaled_by_depth(layers: int) -> None:
    """What writes into the residual stream starts at 1/sqrt(number of branches) of a layer's own size, once."""
    stack = Stack.Config(width=64, blocks=(_wide(64),) * layers).build()
    expected = 1 / math.sqrt(3 * 64) / math.sqrt(2 * layers)  # the default of nn.Linear has variance 1/(3 inputs)
    found = torch.stack([block.mixer.out.weight.std() for block in stack.blocks])
    assert torch.allclose(found, torch.full_like(found, expected), rtol=0.1)
    others = torch.stack([block.mixer.q.weight.std() for block in stack.blocks])
    assert torch.allclose(others, torch.full_like(others, 1 / math.sqrt(3 * 64)), rtol=0.1)


def _wide(width: int) -> Block.Config:
    mixer = Attention.Config(width=width, heads=2, kv_heads=2, position=None)
    return Block.Config(width=width, mixer=mixer, feed_forward=SwiGLU.Config(width=width, hidden=2 * width))


def test_state_is_one_per_part() -> None:
    stack = Stack.Config(width=8, blocks=(BLOCK, MIXER, FEED_FORWARD)).build()
    _, state = stack(torch.randn(1, 3, 8), Span.plain_from(torch.zeros(1, 3, dtype=torch.long)))
    assert len(state) == 3
    assert len(state[0]) == 2
    assert state[0][1] is None
    assert state[2] is None


def test_rejects_a_state_of_another_depth() -> None:
    one, two = (Stack.Config(width=8, blocks=(BLOCK,) * n).build() for n in (1, 2))
    span = Span.plain_from(torch.zeros(1, 3, dtype=torch.long))
    _, state = one(torch.randn(1, 3, 8), span)
    with pytest.raises(ContextError, match="state = 'states of 1 parts': this stack has 2"):
        two(torch.randn(1, 3, 8), span, state)
