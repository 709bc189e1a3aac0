"""Presets `hnet` (one stage of learned chunks), `hnet2` (two) and `spacebyte` (chunks at spaces)."""

from __future__ import annotations

from everlong.core.config import check
from everlong.model.hnet import Stage, nested
from everlong.model.language_model import LanguageModel
from everlong.model.presets.decoder import BYTES, ROPE, blocks, hidden_size
from everlong.model.presets.registry import family
from everlong.resolution.chunkers import WORD, Chunker, SpaceLike
from everlong.resolution.hierarchy import Hierarchy
from everlong.resolution.routing import Routing
from everlong.sequence.attention import Attention, WindowAttention
from everlong.sequence.position import PartialRotary, Position

HALF = PartialRotary.Config(fraction=0.5)
"""The authors' position encoding."""

ONE = {
    "nano": {"layers": 3, "width": 96, "heads": 3, "outer_width": 64, "head_size": 32, "state_size": 64},
    "tiny": {"layers": 3, "width": 256, "heads": 4, "outer_width": 128, "state_size": 64},
    "small": {"layers": 8, "width": 512, "heads": 8, "outer_width": 256},
    "base": {"layers": 14, "width": 768, "heads": 12, "outer_width": 512},
}
TWO = {
    "nano": {"layers": 3, "width": 96, "heads": 3, "outer_width": 48, "middle_width": 64, "middle_heads": 2,
             "head_size": 32, "state_size": 64},
    "tiny": {"layers": 2, "width": 256, "heads": 4, "outer_width": 96, "middle_width": 128, "middle_heads": 2,
             "state_size": 64},
    "small": {"layers": 6, "width": 512, "heads": 8, "outer_width": 256, "middle_width": 384, "middle_heads": 6},
    "base": {"layers": 12, "width": 768, "heads": 12, "outer_width": 512, "middle_width": 640, "middle_heads": 10},
}  # fmt: skip
SPACES = {
    "nano": {"layers": 3, "width": 96, "heads": 3, "outer_width": 64, "outer_heads": 2},
    "tiny": {"layers": 3, "width": 256, "heads": 4, "outer_width": 128, "outer_heads": 2},
    "small": {"layers": 8, "width": 512, "heads": 8, "outer_width": 256, "outer_heads": 4, "outer_layers": 2},
    "base": {"layers": 14, "width": 768, "heads": 12, "outer_width": 512, "outer_heads": 8, "outer_layers": 2},
}
"""The common sizes: about as many parameters as those of other families."""

_PUBLISHED = {"heads": 16, "outer_width": 1024, "outer_layers": 4, "position": HALF, "vocabulary": 256}
PUBLISHED_ONE = {
    "large": {**_PUBLISHED, "layers": 22, "width": 1536, "hidden": 4096},
    "xl": {**_PUBLISHED, "layers": 24, "width": 2048, "hidden": 5504},
}
_MIDDLE = {"middle_heads": 16, "middle_layers": 4, "middle_window": 1024}
PUBLISHED_TWO = {
    "large": {**_PUBLISHED, **_MIDDLE, "layers": 26, "width": 1536, "hidden": 4096, "middle_width": 1024,
              "middle_hidden": 2816},
    "xl": {**_PUBLISHED, **_MIDDLE, "layers": 27, "width": 2048, "hidden": 5504, "middle_width": 1536,
           "middle_hidden": 4096},
}  # fmt: skip
"""The paper's sizes."""


@family(**ONE, **PUBLISHED_ONE)
def hnet(
    *,
    layers: int,
    width: int,
    heads: int,
    outer_width: int,
    outer_layers: int = 2,
    head_size: int = 64,
    state_size: int = 128,
    position: Position | None = ROPE,
    bytes_per_chunk: float = 6.0,
    ratio_weight: float = 0.03,
    chunker: Chunker.Config | None = None,
    hidden: int | None = None,
    vocabulary: int = BYTES,
    context_limit: int | None = None,
) -> LanguageModel.Config:
    """Mamba-2 layers over bytes, before and after a transformer over learned chunks of about `bytes_per_chunk`; or over
    those of another `chunker`, with all else as it is."""
    check(layers >= 1, "layers", layers, "must be at least 1")
    check(outer_layers >= 1, "outer_layers", outer_layers, "must be at least 1")
    known = None if chunker is None else chunker.vocabulary
    remedy = f"is that of the model which decides on chunks, and must be this model's, {vocabulary}: train it alike"
    check(known in (None, vocabulary), "chunker.vocabulary", known, remedy)
    mamba = {"head_size": head_size, "state_size": state_size, "position": position, "window": None}
    stages = [
        Stage(width=outer_width, heads=1, hidden=1, **mamba),
        Stage(width=width, heads=heads, hidden=hidden_size(width, hidden), **mamba),
    ]
    layout = [f"m{outer_layers}", [f"T{layers}"], f"m{outer_layers}"]
    learned = Routing.Config(width=outer_width, bytes_per_chunk=bytes_per_chunk, ratio_weight=ratio_weight)
    body = nested(layout, stages, (learned if chunker is None else chunker,))
    return LanguageModel.Config(vocabulary=vocabulary, body=body, context_limit=context_limit)


@family(**TWO, **PUBLISHED_TWO)
def hnet2(
    *,
    layers: int,
    width: int,
    heads: int,
    outer_width: int,
    middle_width: int,
    middle_heads: int,
    outer_layers: int = 2,
    middle_layers: int = 2,
    middle_hidden: int | None = None,
    middle_window: int = 256,
    head_size: int = 64,
    state_size: int = 128,
    position: Position | None = ROPE,
    rates: tuple[float, float] = (3.0, 3.0),
    ratio_weight: float = 0.03,
    hidden: int | None = None,
    vocabulary: int = BYTES,
    context_limit: int | None = None,
) -> LanguageModel.Config:
    """Mamba-2 over bytes, Mamba-2 and a block of attention over chunks, and a transformer over chunks of chunks."""
    check(layers >= 1, "layers", layers, "must be at least 1")
    for name, count in (("outer_layers", outer_layers), ("middle_layers", middle_layers)):
        check(count >= 1, name, count, "must be at least 1")
    mamba = {"head_size": head_size, "state_size": state_size, "position": position}
    middle = {"heads": middle_heads, "hidden": hidden_size(middle_width, middle_hidden), "window": middle_window}
    stages = [
        Stage(width=outer_width, heads=1, hidden=1, window=None, **mamba),
        Stage(width=middle_width, **middle, **mamba),
        Stage(width=width, heads=heads, hidden=hidden_size(width, hidden), window=None, **mamba),
    ]
    outer, inside = f"m{outer_layers}", f"m{middle_layers}"
    chunkers = [
        Routing.Config(width=width, bytes_per_chunk=rate, ratio_weight=ratio_weight)
        for width, rate in zip((outer_width, middle_width), rates, strict=True)
    ]
    body = nested([outer, [f"T1{inside}", [f"T{layers}"], f"{inside}T1"], outer], stages, chunkers)
    return LanguageModel.Config(vocabulary=vocabulary, body=body, context_limit=context_limit)


@family(**SPACES)
def spacebyte(
    *,
    layers: int,
    width: int,
    heads: int,
    outer_width: int,
    outer_heads: int,
    outer_layers: int = 1,
    window: int = 256,
    position: Position | None = ROPE,
    word: tuple[tuple[int, int], ...] = WORD,
    hidden: int | None = None,
    vocabulary: int = BYTES,
    context_limit: int | None = None,
) -> LanguageModel.Config:
    """Windows of attention over bytes, before and after a transformer over the chunks that begin at spaces: at ids
    outside the ranges of `word`, behind one inside."""
    check(outer_layers >= 1, "outer_layers", outer_layers, "must be at least 1")
    near = WindowAttention.Config(width=outer_width, heads=outer_heads, position=position, window=window)
    outer = blocks(near, layers=outer_layers)
    body = Hierarchy.Config(
        width=outer_width,
        encoder=outer,
        chunker=SpaceLike.Config(width=outer_width, word=word),
        inner=blocks(Attention.Config(width=width, heads=heads, position=position), layers=layers, hidden=hidden),
        decoder=outer,
    )
    return LanguageModel.Config(vocabulary=vocabulary, body=body, context_limit=context_limit)
