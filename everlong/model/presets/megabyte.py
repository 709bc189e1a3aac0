"""Presets `megabyte` and `megabyte3`: fixed patches of bytes, in two and in three levels."""

from __future__ import annotations

from everlong.core.config import check_divides
from everlong.model.language_model import LanguageModel
from everlong.model.presets.decoder import BYTES, ROPE, blocks
from everlong.model.presets.registry import family
from everlong.model.stack import Block, Stack
from everlong.model.tied import TiedLanguageModel
from everlong.resolution.convolutions import Convolutions
from everlong.resolution.megabyte import CrossPatchMegabyte, Megabyte
from everlong.resolution.patches import Patches
from everlong.sequence.attention import Attention
from everlong.sequence.patch_attention import PatchAttention
from everlong.sequence.position import Position

TWO = {
    "nano": {"layers": 3, "width": 96, "heads": 3, "local_layers": 2, "local_width": 48, "local_heads": 2},
    "tiny": {"layers": 3, "width": 256, "heads": 4, "local_layers": 3, "local_width": 128, "local_heads": 2},
    "small": {"layers": 8, "width": 512, "heads": 8, "local_layers": 4, "local_width": 256, "local_heads": 4},
    "base": {"layers": 14, "width": 768, "heads": 12, "local_layers": 6, "local_width": 384, "local_heads": 6},
}
THREE = {
    "nano": {"layers": 2, "width": 96, "heads": 3, "middle_layers": 2, "middle_width": 64, "middle_heads": 2,
             "local_layers": 1, "local_width": 48, "local_heads": 2},
    "tiny": {"layers": 2, "width": 256, "heads": 4, "middle_layers": 2, "middle_width": 192, "middle_heads": 3,
             "local_layers": 2, "local_width": 128, "local_heads": 2},
    "small": {"layers": 6, "width": 512, "heads": 8, "middle_layers": 4, "middle_width": 384, "middle_heads": 6,
              "local_layers": 2, "local_width": 256, "local_heads": 4},
    "base": {"layers": 11, "width": 768, "heads": 12, "middle_layers": 5, "middle_width": 576, "middle_heads": 9,
             "local_layers": 3, "local_width": 384, "local_heads": 6},
}  # fmt: skip
"""The common sizes: about as many parameters as those of other families."""

PAPER = {
    "layers": 14,
    "width": 2048,
    "heads": 16,
    "local_layers": 18,
    "local_width": 1024,
    "local_heads": 16,
    "position": None,
    "positions": 8191,
    "vocabulary": 259,
    "context_limit": 8192,
}
"""The text model of 758M + 262M parameters and patches of 8. Its depths are not in the text: they are those that
12 D^2 parameters a layer come closest with."""


@family(**TWO, paper=PAPER)
def megabyte(
    *,
    layers: int,
    width: int,
    heads: int,
    local_layers: int,
    local_width: int,
    local_heads: int,
    patch: int = 8,
    position: Position | None = ROPE,
    positions: int | None = None,
    overlap: int = 0,
    convolutions: tuple[int, ...] = (),
    hidden: int | None = None,
    vocabulary: int = BYTES,
    context_limit: int | None = None,
) -> LanguageModel.Config:
    """A transformer over patches of `patch` bytes, and a small one inside each. `position` is the global part's;
    `positions` gives the global embedding a table of that many positions besides. The small one also sees the last
    `overlap` positions of the patch before, and `convolutions` are the taps of those that read bytes before they are
    patches, (3, 5, 7) in the paper."""
    check_divides(patch, width, "patch", "width")
    encoder = Convolutions.Config(width=width // patch, taps=convolutions) if convolutions else None
    local = _blocks(local_layers, local_width, local_heads, ROPE, None)
    if overlap:
        local = _across(local, patch, overlap)
    body = (CrossPatchMegabyte if overlap else Megabyte).Config(
        width=local_width,
        patch=patch,
        inner=_blocks(layers, width, heads, position, hidden),
        local=local,
        vocabulary=vocabulary,
        positions=positions,
        encoder=encoder,
    )
    return TiedLanguageModel.Config(vocabulary=vocabulary, body=body, context_limit=context_limit)


@family(**THREE)
def megabyte3(
    *,
    layers: int,
    width: int,
    heads: int,
    middle_layers: int,
    middle_width: int,
    middle_heads: int,
    local_layers: int,
    local_width: int,
    local_heads: int,
    patches: tuple[int, int] = (4, 4),
    position: Position | None = ROPE,
    hidden: int | None = None,
    vocabulary: int = BYTES,
    context_limit: int | None = None,
) -> LanguageModel.Config:
    """Three levels: bytes in patches of `patches[0]`, those in patches of `patches[1]`."""
    middle = Patches.Config(
        width=middle_width,
        patch=patches[1],
        inner=_blocks(layers, width, heads, position, hidden),
        local=_blocks(middle_layers, middle_width, middle_heads, ROPE, None),
    )
    body = Megabyte.Config(
        width=local_width,
        patch=patches[0],
        inner=middle,
        local=_blocks(local_layers, local_width, local_heads, ROPE, None),
        vocabulary=vocabulary,
        positions=None,
    )
    return TiedLanguageModel.Config(vocabulary=vocabulary, body=body, context_limit=context_limit)


def _across(local: Stack.Config, patch: int, overlap: int) -> Stack.Config:
    """The same blocks, with attention that sees the end of the patch before."""
    width, block = local.width, local.blocks[0]
    assert isinstance(block, Block.Config)
    assert isinstance(block.mixer, Attention.Config)
    heads = {"heads": block.mixer.heads, "kv_heads": block.mixer.kv_heads, "position": block.mixer.position}
    mixer = PatchAttention.Config(width=width, **heads, block=patch, summary=overlap)
    return local.replace(blocks=(block.replace(mixer=mixer),) * len(local.blocks))


def _blocks(layers: int, width: int, heads: int, position: Position | None, hidden: int | None) -> Stack.Config:
    return blocks(Attention.Config(width=width, heads=heads, position=position), layers=layers, hidden=hidden)
