"""Presets `infini`, and what it is compared with: `transformer-xl` and `rmt`."""

from __future__ import annotations

from everlong.core.config import check, suggest
from everlong.memory.recurrent_memory import RecurrentMemory
from everlong.model.language_model import LanguageModel
from everlong.model.presets.attention import transformer
from everlong.model.presets.decoder import ROPE, decoder
from everlong.model.presets.registry import extending, family, within
from everlong.sequence.blockwise import BlockwiseAttention
from everlong.sequence.infini import InfiniAttention
from everlong.sequence.infini_memory import Delta, GatedDelta, Linear, StableDelta, Update
from everlong.sequence.position import Position

UPDATES: dict[str, Update.Config] = {
    "linear": Linear.Config(),
    "delta": Delta.Config(),
    "delta_stable": StableDelta.Config(),
    "gated_delta": GatedDelta.Config(),
}
"""How a full segment is written into the memory, by name."""

PAPER = {"layers": 12, "width": 1024, "heads": 8, "hidden": 4096, "segment": 2048, "update": "delta"}
"""The size of the paper's language models (section 3.1), with its delta rule."""


@family(paper=PAPER)
@within(decoder)
def infini(
    *,
    width: int,
    heads: int,
    kv_heads: int | None = None,
    position: Position | None = ROPE,
    segment: int = 256,
    update: str = "delta_stable",
    gate: float = 0.0,
    gate_learning_rate: float = 10.0,
) -> InfiniAttention.Config:
    """Infini-attention in every layer: segments of `segment` positions, and a memory of all before them that is written
    by the rule `update`."""
    check(update in UPDATES, "update", update, suggest(str(update), UPDATES))
    shape = {"width": width, "heads": heads, "kv_heads": kv_heads, "position": position, "segment": segment}
    return InfiniAttention.Config(**shape, update=UPDATES[update], gate=gate, gate_learning_rate=gate_learning_rate)


@family()
@within(decoder)
def transformer_xl(
    *, width: int, heads: int, kv_heads: int | None = None, position: Position | None = ROPE, segment: int = 256
) -> BlockwiseAttention.Config:
    """Attention to the own segment and the one before in every layer (Dai et al. 2019, arXiv 1901.02860), with RoPE in
    place of relative terms. Trained on windows of one segment whose state is carried over, which cuts the gradient at
    their border, it learns as the paper's does."""
    return BlockwiseAttention.Config(width=width, heads=heads, kv_heads=kv_heads, position=position, block=segment)


@family()
@extending(transformer)
def rmt(plain: LanguageModel.Config, *, segment: int = 256, memories: int = 10) -> LanguageModel.Config:
    """A transformer that reads segment by segment, with `memories` vectors handed on from each to the next."""
    whole = {"width": plain.body.width, "inner": plain.body}
    return plain.replace(body=RecurrentMemory.Config(**whole, segment=segment, memories=memories))
