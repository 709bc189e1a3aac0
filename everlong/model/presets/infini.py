"""Presets `infini`, and what it is compared with: `transformer-xl` and `rmt`."""

from __future__ import annotations

from everlong.core.config import check, suggest
from everlong.memory.recurrent_memory import RecurrentMemory
from everlong.model.language_model import LanguageModel
from everlong.model.presets.decoder import BYTES, ROPE, decoder
from everlong.model.presets.registry import family
from everlong.sequence.attention import Attention
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
def infini(
    *,
    layers: int,
    width: int,
    heads: int,
    kv_heads: int | None = None,
    position: Position | None = ROPE,
    segment: int = 256,
    update: str = "delta_stable",
    gate: float = 0.0,
    gate_learning_rate: float = 10.0,
    hidden: int | None = None,
    vocabulary: int = BYTES,
    context_limit: int | None = None,
) -> LanguageModel.Config:
    """Infini-attention in every layer: segments of `segment` positions, and a memory of all before them that is written
    by the rule `update`."""
    check(update in UPDATES, "update", update, suggest(str(update), UPDATES))
    mixer = InfiniAttention.Config(
        width=width,
        heads=heads,
        kv_heads=heads if kv_heads is None else kv_heads,
        position=position,
        segment=segment,
        update=UPDATES[update],
        gate=gate,
        gate_learning_rate=gate_learning_rate,
    )
    return decoder(mixer, layers=layers, vocabulary=vocabulary, context_limit=context_limit, hidden=hidden)


@family()
def transformer_xl(
    *,
    layers: int,
    width: int,
    heads: int,
    kv_heads: int | None = None,
    position: Position | None = ROPE,
    segment: int = 256,
    hidden: int | None = None,
    vocabulary: int = BYTES,
    context_limit: int | None = None,
) -> LanguageModel.Config:
    """Attention to the own segment and the one before in every layer (Dai et al. 2019, arXiv 1901.02860), with RoPE in
    place of relative terms. Trained on windows of one segment whose state is carried over, which cuts the gradient at
    their border, it learns as the paper's does."""
    kv = heads if kv_heads is None else kv_heads
    mixer = BlockwiseAttention.Config(width=width, heads=heads, kv_heads=kv, position=position, block=segment)
    return decoder(mixer, layers=layers, vocabulary=vocabulary, context_limit=context_limit, hidden=hidden)


@family()
def rmt(
    *,
    layers: int,
    width: int,
    heads: int,
    kv_heads: int | None = None,
    position: Position | None = ROPE,
    segment: int = 256,
    memories: int = 10,
    hidden: int | None = None,
    vocabulary: int = BYTES,
    context_limit: int | None = None,
) -> LanguageModel.Config:
    """A transformer that reads segment by segment, with `memories` vectors handed on from each to the next."""
    kv = heads if kv_heads is None else kv_heads
    mixer = Attention.Config(width=width, heads=heads, kv_heads=kv, position=position)
    plain = decoder(mixer, layers=layers, vocabulary=vocabulary, context_limit=context_limit, hidden=hidden)
    body = RecurrentMemory.Config(width=width, inner=plain.body, segment=segment, memories=memories)
    return plain.replace(body=body)
