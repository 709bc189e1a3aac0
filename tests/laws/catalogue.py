"""The catalogue: one small example of every part and every preset, and random combinations of them.

Parts are entered in `entries/`; a preset family enters itself. Every law runs over the whole catalogue.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from torch import nn

import everlong
from everlong import Config, LanguageModel, Part
from everlong.model.stack import Stack
from everlong.testing.stream import VOCABULARY
from tests.laws.entries import ENTRIES
from tests.laws.entries.shared import ROPE, XPOS, block, stack


def _merged(name: str) -> dict[Any, Any]:
    """A dictionary of all entries together."""
    return {key: value for entry in ENTRIES for key, value in getattr(entry, name, {}).items()}


PARTS: dict[str, Config] = _merged("PARTS")
SHRUNK: dict[str, dict[str, Any]] = _merged("SHRUNK")
NOMINAL: dict[type[nn.Module], Callable[[Any], None]] = _merged("NOMINAL")
MIXERS: list[Callable[[random.Random, dict[str, Any]], Part.Config]] = [
    mixer for entry in ENTRIES for mixer in getattr(entry, "MIXERS", [])
]

FAMILIES = sorted({name.partition(":")[0] for name in everlong.presets()})


def shrunken(family: str, layers: int = 2) -> LanguageModel.Config:
    """A preset at a size for tests; its shape is that of the preset."""
    small = {"layers": layers, "width": 12, "heads": 2, "hidden": 16, "vocabulary": VOCABULARY}
    known = everlong.model.presets.arguments(f"{family}:nano")  # a family without heads takes none
    small = {name: value for name, value in small.items() if name in known}
    return everlong.config(f"{family}:nano", **small, **SHRUNK.get(family, {}))


CATALOGUE: dict[str, Config] = PARTS | {f"preset {family}": shrunken(family) for family in FAMILIES}

REPEATED = {
    "window of 2",
    "window beyond the stream",
    "sparse, blocks of 1",
    "sparse, blocks of 5",
    "sparse, one block",
    "dilated, one kv head, xPos",
    "dilated, rotated",
    "dilated, look-back, one kv head, xPos",
    "dilated, sinks, one kv head, xPos",
    "dilated, dense",
    "infini, segments of 1",
    "infini, gated delta, one kv head, xPos",
    "recurrent memory, of a window",
    "engram, of single tokens",
    "short convolution, of one tap",
    "depths, sparse, xPos",
    "depths, dilated, xPos",
    "depths, blockwise",
    "depths, attention, xPos",
    "depths, all positions",
    "stack of depths",
    "depths, engram",
    "experts, softmax, one active",
    "experts, all active",
    "mamba-2, a group a head, one tap",
    "mamba-2, many taps",
    "block and stack, other eps",
    "gated delta, negative eigenvalues",
    "preset hybrid7",
    "preset engram-moe",
    "preset infini-mod",
    "preset hnet2",
    "preset megabyte3",
    "preset transformer-xl",
    "preset spacebyte",
    "preset mamba1",
    "preset mamba3",
    "preset delta",
    "preset parallel-hybrid",
    "preset linear",
    "preset sparse",
    "preset over-encoding",
}
"""What another entry already has but for its numbers, or is made of parts that are entered: slow tests."""


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
    position = draw.choice([None, ROPE, XPOS])
    return draw.choice(MIXERS)(draw, {"width": 8, "heads": heads, "kv_heads": kv_heads, "position": position})


def nominal(part: Part) -> Part:
    """The part, with all parts inside it that choose by the data made to choose at exactly their nominal rate."""
    for module in part.modules():
        if type(module) in NOMINAL:
            NOMINAL[type(module)](module)
    return part
