"""The second stage of `composition.py`: what the preset `everlong` leaves out, put into it one by one, on Python source
code at equal FLOPs per byte, three seeds.

`infini` and `dilated` have Infini-attention and dilated attention in place of the window; `routed` sends an eighth of
the positions through every other block (Mixture-of-Depths); `spaces` and `learned` have chunks that begin at spaces or
are learnt, with a transformer over them, and the preset's tables and n-gram heads at the level of bytes. Sized for half
an hour of two CPU cores.
"""

import runpy
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

from everlong.core.part import Part
from everlong.depth.mixture_of_depths import MixtureOfDepths
from everlong.lab import Architecture, EqualFlops, Study
from everlong.model.language_model import LanguageModel
from everlong.model.presets import arguments
from everlong.model.presets.composed import everlong
from everlong.model.presets.engram import stack_of
from everlong.model.presets.registry import extending, family
from everlong.model.stack import Block
from everlong.sequence.attention import WindowAttention
from everlong.sequence.dilated import DilatedAttention
from everlong.sequence.infini import InfiniAttention
from everlong.train import DataConfig

STAGE = runpy.run_path(str(Path(__file__).with_name("composition.py")))
SHAPE, study_on = STAGE["SHAPE"], STAGE["study_on"]
remembering = runpy.run_path(str(Path(__file__).with_name("hierarchies.py")))["remembering"]

PRESET = arguments("everlong:nano")
TABLES = {"memory_layers": (0,), **{name: PRESET[name] for name in ("orders", "rows", "row_width")}}
HEADS = {"orders": PRESET["ngram_heads"], "window": PRESET["ngram_window"]}
OUTER = {"outer_width": SHAPE["width"]}


@family("everlong-infini")
@extending(everlong)
def infini(plain: LanguageModel.Config) -> LanguageModel.Config:
    """The preset, with Infini-attention in segments as long as its window."""
    return attending(plain, lambda window, shape: InfiniAttention.Config(**shape, segment=window))


@family("everlong-dilated")
@extending(everlong)
def dilated(plain: LanguageModel.Config) -> LanguageModel.Config:
    """The preset, with dilated attention whose nearest segments are as long as its window."""
    dilations = (1, 2, 4)
    return attending(
        plain,
        lambda window, shape: DilatedAttention.Config(
            **shape, segment_lengths=tuple(window * dilation**2 for dilation in dilations), dilations=dilations
        ),
    )


@family("everlong-routed")
@extending(everlong)
def routed(plain: LanguageModel.Config) -> LanguageModel.Config:
    """The preset, with Mixture-of-Depths around every other block of layers."""
    layer = count()
    return with_blocks(
        plain, lambda block: MixtureOfDepths.Config(width=block.width, inner=block) if next(layer) % 2 else block
    )


def attending(plain: LanguageModel.Config, other: Callable[[int, dict[str, Any]], Part.Config]) -> LanguageModel.Config:
    """The preset with another attention, made from the length of its window and its shape."""

    def change(block: Block.Config) -> Part.Config:
        near = block.mixer
        if not isinstance(near, WindowAttention.Config):
            return block
        shape = {name: getattr(near, name) for name in ("width", "heads", "kv_heads", "position")}
        return block.replace(mixer=other(near.window, shape))

    return with_blocks(plain, change)


def with_blocks(plain: LanguageModel.Config, change: Callable[[Block.Config], Part.Config]) -> LanguageModel.Config:
    """The preset with changed layers; its memory stays."""
    stack = stack_of(plain.body)
    blocks = [change(block) if isinstance(block, Block.Config) else block for block in stack.blocks]
    return plain.replace(body=stack.replace(blocks=tuple(blocks)))


remembering("everlong", memory=TABLES, heads=HEADS)

ARMS: dict[str, tuple[str, dict[str, Any]]] = {
    "everlong": ("everlong", SHAPE),
    "infini": ("everlong-infini", SHAPE),
    "dilated": ("everlong-dilated", SHAPE),
    "routed": ("everlong-routed", SHAPE),
    "spaces": ("spaces-everlong", {**OUTER, "outer_heads": SHAPE["heads"]}),
    "learned": ("learned-everlong", OUTER),
}
"""Families, and what is changed in them."""


def study() -> Study:
    arms = (
        Architecture(name=name, preset=f"{preset}:nano", overrides=overrides)
        for name, (preset, overrides) in ARMS.items()
    )
    return study_on("composition_axes", DataConfig(validation_fraction=0.1), tuple(arms), (EqualFlops(tolerance=0.03),))
