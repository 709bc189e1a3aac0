"""The catalogue: one small example of every part and every preset, and random combinations of them.

A part is entered by one line in `PARTS`; a preset family enters itself, at the size in `SHRUNK` if its own arguments
need shrinking. Every law runs over the whole catalogue.
"""

from __future__ import annotations

import random
from typing import Any

import torch
from torch import Tensor, nn

import everlong
from everlong import Config, LanguageModel, Part, Span
from everlong.memory.engram import Engram
from everlong.memory.hashing import layer_hashes
from everlong.model.stack import Block, Stack
from everlong.sequence.attention import Attention, WindowAttention
from everlong.sequence.blockwise import BlockwiseAttention
from everlong.sequence.dilated import DilatedAttention
from everlong.sequence.linear_attention import LinearAttention
from everlong.sequence.position import Rotary, XPos
from everlong.sequence.sparse import SparseAttention
from everlong.width.swiglu import SwiGLU
from tests.laws.stream import VOCABULARY

ROPE = Rotary.Config()
XPOS = XPos.Config(scale_base=4.0)  # so short that a decay shows within a few positions
FULL: dict[str, Any] = {"width": 8, "heads": 2, "kv_heads": 2, "position": None}
SHARED: dict[str, Any] = {"width": 16, "heads": 4, "kv_heads": 2, "position": ROPE}
SINGLE: dict[str, Any] = {"width": 16, "heads": 4, "kv_heads": 1, "position": XPOS}


def block(mixer: Part.Config) -> Block.Config:
    """A block around a mixer."""
    return Block.Config(width=mixer.width, mixer=mixer, feed_forward=SwiGLU.Config(width=mixer.width, hidden=12))


def stack(*blocks: Part.Config) -> Stack.Config:
    """A stack of parts."""
    return Stack.Config(width=blocks[0].width, blocks=blocks)


def engram(orders: tuple[int, ...], heads: int) -> Engram.Config:
    """An n-gram memory so small that n-grams meet in its rows."""
    hash = layer_hashes([1], vocabulary=VOCABULARY, orders=orders, rows=5, heads=heads, pad=VOCABULARY - 1)[1]
    return Engram.Config(width=8, hash=hash, row_width=3)


PARTS: dict[str, Config] = {
    "attention": Attention.Config(**FULL),
    "attention, grouped, RoPE": Attention.Config(**SHARED),
    "attention, one kv head, xPos": Attention.Config(**SINGLE),
    "window of 1": WindowAttention.Config(**SHARED, window=1),
    "window of 2": WindowAttention.Config(**FULL, window=2),
    "window of 3": WindowAttention.Config(**SINGLE, window=3),
    "window of 7": WindowAttention.Config(**SHARED, window=7),
    "window beyond the stream": WindowAttention.Config(**SHARED, window=100),
    "sparse, blocks of 1": SparseAttention.Config(**SHARED, block=1, summary=1),
    "sparse, blocks of 4": SparseAttention.Config(**FULL, block=4, summary=1),
    "sparse, blocks of 4, xPos": SparseAttention.Config(**SINGLE, block=4, summary=3),
    "sparse, blocks of 5": SparseAttention.Config(**SHARED, block=5, summary=2),
    "sparse, all summaries": SparseAttention.Config(**SHARED, block=5, summary=5),
    "sparse, one block": SparseAttention.Config(**SHARED, block=100, summary=3),
    "dilated": DilatedAttention.Config(**FULL, segment_lengths=(4, 6, 9), dilations=(1, 2, 4)),
    "dilated, ragged segments": DilatedAttention.Config(**SHARED, segment_lengths=(3, 5, 7), dilations=(1, 2, 3)),
    "dilated, one kv head, xPos": DilatedAttention.Config(**SINGLE, segment_lengths=(2, 7), dilations=(1, 3)),
    "dilated, rotated": DilatedAttention.Config(**SHARED, segment_lengths=(3, 6), dilations=(1, 4), rotation=3),
    "dilated, sinks": DilatedAttention.Config(**SHARED, segment_lengths=(3, 5), dilations=(1, 2), sinks=2),
    "dilated, sinks, one kv head, xPos": DilatedAttention.Config(
        **SINGLE, segment_lengths=(2, 7), dilations=(1, 3), sinks=5
    ),
    "dilated, look-back": DilatedAttention.Config(
        **FULL, segment_lengths=(2, 3, 7), dilations=(1, 2, 5), look_back=True
    ),
    "dilated, look-back, sinks": DilatedAttention.Config(
        **SHARED, segment_lengths=(1, 4, 5), dilations=(1, 2, 3), look_back=True, sinks=3
    ),
    "dilated, look-back, one kv head, xPos": DilatedAttention.Config(
        **SINGLE, segment_lengths=(2, 5), dilations=(1, 3), look_back=True, rotation=1
    ),
    "dilated, dense": DilatedAttention.Config(**SHARED, segment_lengths=(100,), dilations=(1,)),
    "blockwise": BlockwiseAttention.Config(**SHARED, block=4),
    "blockwise, xPos": BlockwiseAttention.Config(**SINGLE, block=1),
    "linear attention": LinearAttention.Config(width=8, heads=2),
    "swiglu": SwiGLU.Config(width=8, hidden=12),
    "engram": engram(orders=(2, 3), heads=2),
    "engram, of single tokens": engram(orders=(1,), heads=1),
    "engram, long": engram(orders=(1, 4, 7), heads=1),
    "block": block(WindowAttention.Config(**SHARED, window=3)),
    "stack of different mixers": stack(
        block(Attention.Config(**SINGLE)),
        block(LinearAttention.Config(width=16, heads=2)),
        block(SparseAttention.Config(**SHARED, block=4, summary=2)),
    ),
}

SHRUNK: dict[str, dict[str, Any]] = {
    "window": {"window": 5},
    "sparse": {"block": 5, "summary": 2},
    "longnet": {"segment_lengths": (4, 6, 9), "dilations": (1, 2, 4)},
    "engram": {"window": 5, "memory_layers": (0,), "orders": (2, 4), "rows": 7, "row_width": 3},
}
FAMILIES = sorted({name.partition(":")[0] for name in everlong.presets()})


def shrunken(family: str, layers: int = 2) -> LanguageModel.Config:
    """A preset at a size for tests; its shape is that of the preset."""
    small = {"layers": layers, "width": 12, "heads": 2, "hidden": 16, "vocabulary": VOCABULARY}
    return everlong.config(f"{family}:nano", **small, **SHRUNK.get(family, {}))


CATALOGUE: dict[str, Config] = PARTS | {f"preset {family}": shrunken(family) for family in FAMILIES}


class Embedded(Part):
    """A language model as a part: the vectors are added to its embeddings, and logits come out."""

    def __init__(self, model: LanguageModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, x_BTD: Tensor, span: Span, state: Any = None) -> tuple[Tensor, Any]:
        def add(_module: nn.Module, _inputs: Any, embedded_BTD: Tensor) -> Tensor:
            return embedded_BTD + x_BTD

        hook = self.model.embedding.register_forward_hook(add)
        try:
            output = self.model(span.ids_BT, state, documents=span.document_BT, real=span.real_BT)
        finally:
            hook.remove()
        return output.logits, output.state

    def flops(self, T: int) -> int:
        return self.model.flops(T)

    def state_bytes(self, T: int) -> int:
        return self.model.state_bytes(T)


def width(config: Config) -> int:
    """D, of a part or of a model's body."""
    return (config.body if isinstance(config, LanguageModel.Config) else config).width  # type: ignore[attr-defined]


def make(config: Config) -> Part:
    """Builds an example in float64, with weights so large that the output depends on everything."""
    part = config.build().double()
    shake(part)
    return Embedded(part) if isinstance(part, LanguageModel) else part


def shake(module: nn.Module, seed: int = 0) -> None:
    """Replaces all parameters: matrices keep the size of what they map, the rest lies around one."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        draw = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        fresh = 1.5 * draw / parameter[0].numel() ** 0.5 if parameter.ndim > 1 else 1 + 0.3 * draw.tanh()
        parameter.data.copy_(fresh)


def combination(seed: int, depth: int = 2) -> Stack.Config:
    """A random stack of blocks, bare mixers and stacks, all of width 8 and each mixing in its own way."""
    draw = random.Random(seed)

    def part(depth: int) -> Part.Config:
        kinds = (
            lambda: block(_mixer(draw)),
            lambda: _mixer(draw),
            lambda: combination(draw.randrange(2**16), depth - 1),
        )
        return draw.choice(kinds if depth else kinds[:2])()

    return stack(*(part(depth) for _ in range(draw.randint(1, 2))))


def _mixer(draw: random.Random) -> Part.Config:
    heads, kv_heads = draw.choice([(2, 1), (2, 2), (1, 1)])
    shape: dict[str, Any] = {
        "width": 8,
        "heads": heads,
        "kv_heads": kv_heads,
        "position": draw.choice([None, ROPE, XPOS]),
    }
    block = draw.randint(1, 6)
    kinds = (
        lambda: Attention.Config(**shape),
        lambda: WindowAttention.Config(**shape, window=draw.randint(1, 9)),
        lambda: SparseAttention.Config(**shape, block=block, summary=draw.randint(1, block)),
        lambda: LinearAttention.Config(width=8, heads=heads),
        lambda: engram(orders=(1, 1 + block), heads=heads),
        lambda: DilatedAttention.Config(**shape, segment_lengths=(block, block + 3), dilations=(1, 1 + block)),
    )
    return draw.choice(kinds)()
