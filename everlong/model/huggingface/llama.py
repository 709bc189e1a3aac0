"""Llama, and Bamba, in which some of its attention layers are Mamba-2, as transformers has them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from everlong.core.errors import CheckpointError
from everlong.core.part import Part
from everlong.model.huggingface.mamba import MAMBA2_NAMES, mamba_of, mamba_settings
from everlong.model.huggingface.scheme import Scheme, Settings, refuse_unless, required
from everlong.model.language_model import LanguageModel
from everlong.model.stack import Block, Stack
from everlong.sequence.attention import Attention
from everlong.sequence.mamba import Mamba2
from everlong.sequence.position import PartialRotary, Position, Rotary
from everlong.width.swiglu import SwiGLU

ATTENTION_NAMES = {f"{ours}.weight": f"{ours[0]}_proj.weight" for ours in ("q", "k", "v", "out")}
FEED_FORWARD_NAMES = {
    "gate.weight": "gate_proj.weight",
    "input.weight": "up_proj.weight",
    "out.weight": "down_proj.weight",
}


def attention_of(settings: Settings) -> Attention.Config:
    """The attention of a `LlamaConfig` or a `BambaConfig`."""
    return Attention.Config(**attention_shape(settings), position=rope_of(settings))


def attention_shape(settings: Settings) -> dict[str, int]:
    """Width and heads of an attention layer."""
    width, heads = required(settings, "hidden_size", "num_attention_heads")
    refuse_unless(settings, attention_bias=False, mlp_bias=False, hidden_act="silu")
    if settings.get("head_dim") is not None:
        refuse_unless(settings, head_dim=width // heads)
    return {"width": width, "heads": heads, "kv_heads": settings.get("num_key_value_heads") or heads}


def rope_of(settings: Settings) -> Position:
    """RoPE, on all or on the first coordinates of a head."""
    rope = settings.get("rope_parameters") or {}
    refuse_unless(rope, rope_type="default")
    base = rope.get("rope_theta", settings.get("rope_theta"))
    if base is None:
        raise CheckpointError("config.json: rope_parameters", rope, "must give rope_theta")
    fraction = rope.get("partial_rotary_factor", 1.0)
    return Rotary.Config(base=base) if fraction == 1 else PartialRotary.Config(base=base, fraction=fraction)


def model_of(settings: Settings, mixers: list[Part.Config]) -> LanguageModel.Config:
    """Blocks of the mixers, in order."""
    vocabulary, hidden, eps = required(settings, "vocab_size", "intermediate_size", "rms_norm_eps")
    width = mixers[0].width
    feed_forward = SwiGLU.Config(width=width, hidden=hidden)
    blocks = (Block.Config(width=width, mixer=mixer, feed_forward=feed_forward, eps=eps) for mixer in mixers)
    body = Stack.Config(width=width, blocks=tuple(blocks), eps=eps)
    limit = required(settings, "max_position_embeddings")[0]
    return LanguageModel.Config(vocabulary=vocabulary, body=body, context_limit=limit)


def blocks_of(config: LanguageModel.Config) -> tuple[list[Block.Config], Settings] | None:
    """The blocks of a model that has equal ones but for their mixers, and what they share; `None` for any other."""
    body = config.body
    if not isinstance(body, Stack.Config) or not all(type(block) is Block.Config for block in body.blocks):
        return None
    blocks = [cast(Block.Config, block) for block in body.blocks]
    feed_forward, first = blocks[0].feed_forward, {(block.feed_forward, block.eps) for block in blocks}
    if type(feed_forward) is not SwiGLU.Config or first != {(feed_forward, body.eps)} or config.context_limit is None:
        return None
    return blocks, {
        "vocab_size": config.vocabulary,
        "hidden_size": body.width,
        "num_hidden_layers": len(blocks),
        "intermediate_size": feed_forward.hidden,
        "rms_norm_eps": body.eps,
        "max_position_embeddings": config.context_limit,
        "hidden_act": "silu",
    }


def attention_settings(attention: Attention.Config) -> Settings:
    """The settings of an attention layer, and of its RoPE if it has one."""
    heads = {"num_attention_heads": attention.heads, "num_key_value_heads": attention.kv_heads, "attention_bias": False}
    position = attention.position
    if position is None:
        return heads
    fraction = position.fraction if isinstance(position, PartialRotary.Config) else 1.0
    rope = {"rope_type": "default", "rope_theta": position.base, "partial_rotary_factor": fraction}
    return heads | {"rope_parameters": rope}


def read_llama(settings: Settings) -> LanguageModel.Config:
    """The model of a `LlamaConfig`."""
    layers = required(settings, "num_hidden_layers")[0]
    refuse_unless(settings.get("rope_parameters") or {}, partial_rotary_factor=1.0)
    return model_of(settings, [attention_of(settings)] * layers)


def write_llama(config: LanguageModel.Config) -> Settings | None:
    """The `LlamaConfig` of a model."""
    found = blocks_of(config)
    if found is None or len(mixers := {block.mixer for block in found[0]}) != 1:
        return None
    mixer = mixers.pop()
    if type(mixer) is not Attention.Config or type(mixer.position) is not Rotary.Config:
        return None
    return found[1] | attention_settings(mixer) | {"mlp_bias": False}


def read_bamba(settings: Settings) -> LanguageModel.Config:
    """The model of a `BambaConfig`."""
    mamba, layers = mamba_of(settings), required(settings, "num_hidden_layers")[0]
    places = settings.get("attn_layer_indices") or ()
    return model_of(settings, [attention_of(settings) if i in places else mamba for i in range(layers)])


def write_bamba(config: LanguageModel.Config) -> Settings | None:
    """The `BambaConfig` of a model with layers of both kinds."""
    found = blocks_of(config)
    if found is None or len(mixers := {type(block.mixer): block.mixer for block in found[0]}) != 2:
        return None
    mamba, attention = mixers.get(Mamba2.Config), mixers.get(Attention.Config)
    if not isinstance(mamba, Mamba2.Config) or not isinstance(attention, Attention.Config):
        return None
    rest = mamba_settings(mamba, found[1]["rms_norm_eps"])
    equal = {block.mixer for block in found[0]} == {mamba, attention}
    if rest is None or not equal or not isinstance(attention.position, Rotary.Config | PartialRotary.Config):
        return None
    places = [i for i, block in enumerate(found[0]) if block.mixer == attention]
    return found[1] | attention_settings(attention) | rest | {"attn_layer_indices": places}


def names(
    config: LanguageModel.Config,
    *,
    norm: str,
    before: str,
    feed_forward: str,
    feed_forward_names: Mapping[str, str] = FEED_FORWARD_NAMES,
) -> dict[str, str]:
    """Their name of every parameter, by ours; `before` is what their norm before the feed-forward is called."""
    found = {"embedding.weight": "model.embed_tokens.weight", "body.norm.weight": f"model.{norm}.weight"}
    found["head.weight"] = "lm_head.weight"
    for i, block in enumerate(cast(Stack.Config, config.body).blocks):
        ours, theirs = f"body.blocks.{i}", f"model.layers.{i}"
        mamba = isinstance(cast(Block.Config, block).mixer, Mamba2.Config)
        child, parts = ("mamba", MAMBA2_NAMES) if mamba else ("self_attn", ATTENTION_NAMES)
        found[f"{ours}.mixer_norm.weight"] = f"{theirs}.input_layernorm.weight"
        found[f"{ours}.feed_forward_norm.weight"] = f"{theirs}.{before}.weight"
        found |= {f"{ours}.mixer.{a}": f"{theirs}.{child}.{b}" for a, b in parts.items()}
        found |= {f"{ours}.feed_forward.{a}": f"{theirs}.{feed_forward}.{b}" for a, b in feed_forward_names.items()}
    return found


LLAMA = Scheme(
    "llama",
    read_llama,
    write_llama,
    lambda config: names(config, norm="norm", before="post_attention_layernorm", feed_forward="mlp"),
)
BAMBA = Scheme(
    "bamba",
    read_bamba,
    write_bamba,
    lambda config: names(config, norm="final_layernorm", before="pre_ff_layernorm", feed_forward="feed_forward"),
)
