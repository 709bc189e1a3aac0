"""GraniteMoeHybrid as transformers has it, without routed experts: Mamba-2 and attention layers, each followed by the
shared feed-forward, with constant factors at embeddings, branches, scores and logits."""

from __future__ import annotations

from typing import cast

from everlong.core.errors import CheckpointError
from everlong.model.huggingface.llama import attention_settings, attention_shape, blocks_of, model_of, names, rope_of
from everlong.model.huggingface.mamba import mamba_of, mamba_settings
from everlong.model.huggingface.scheme import Scheme, Settings, refuse_unless, required
from everlong.model.language_model import LanguageModel
from everlong.model.scaled import Scaled
from everlong.model.stack import Block, Stack
from everlong.sequence.mamba import Mamba2
from everlong.sequence.position import PartialRotary, Rotary
from everlong.sequence.scaled_attention import ScaledAttention

SHARED_NAMES = {
    "gate.weight": "input_linear.weight",
    "input.weight": "input_linear.weight",
    "out.weight": "output_linear.weight",
}
"""Of the feed-forward; the gate's rows come first in the tensor that it shares."""

MAMBA, ATTENTION = ("linear_attention", "mamba"), ("full_attention", "attention")
"""What layers are called, first by transformers 5, then by earlier ones."""

UNTURNED = (None, "nope")
"""Position embedding types of attention that knows no positions."""


def read_granite(settings: Settings) -> LanguageModel.Config:
    """The model of a `GraniteMoeHybridConfig`."""
    required(settings, "num_local_experts")  # transformers' own default are eight
    refuse_unless(settings, num_local_experts=0, normalization_function="rmsnorm")
    fields = "embedding_multiplier", "residual_multiplier", "logits_scaling"
    embedding, residual, logits = map(float, required(settings, *fields))
    kinds = layer_kinds(settings)
    attention = attention_of(settings) if set(kinds) & set(ATTENTION) else None
    mamba = mamba_of(settings) if set(kinds) & set(MAMBA) else None
    mixers = [attention if kind in ATTENTION else mamba for kind in kinds]
    hidden = required(settings, "shared_intermediate_size")[0]
    plain = model_of(settings | {"intermediate_size": hidden}, [mixer for mixer in mixers if mixer is not None])
    stack = cast(Stack.Config, plain.body)
    blocks = tuple(_scaled(cast(Block.Config, block), residual) for block in stack.blocks)
    body = Scaled.Config(
        width=stack.width,
        inner=stack.replace(blocks=blocks),
        input_factor=embedding,
        output_factor=1 / logits,
    )
    return plain.replace(body=body)


def layer_kinds(settings: Settings) -> list[str]:
    """What the layers are called; transformers takes Mamba where nothing is said."""
    layers = required(settings, "num_hidden_layers")[0]
    field = "layers_block_type" if settings.get("layer_types") is None else "layer_types"
    kinds = settings.get(field) or [MAMBA[0]] * layers
    if len(kinds) != layers:
        raise CheckpointError(f"config.json: {field}", kinds, f"must name num_hidden_layers = {layers} layers")
    for kind in kinds:
        if kind not in MAMBA + ATTENTION:
            remedy = f"cannot be expressed; only {', '.join(MAMBA + ATTENTION)} can"
            raise CheckpointError(f"config.json: {field}", kind, remedy)
    return kinds


def attention_of(settings: Settings) -> ScaledAttention.Config:
    """The attention of a `GraniteMoeHybridConfig`."""
    kind = settings.get("position_embedding_type")
    if kind not in (*UNTURNED, "rope"):
        remedy = "cannot be expressed; only 'rope', 'nope' and None can"
        raise CheckpointError("config.json: position_embedding_type", kind, remedy)
    position = None if kind in UNTURNED else rope_of(settings)
    scale = float(required(settings, "attention_multiplier")[0])
    return ScaledAttention.Config(**attention_shape(settings), position=position, scale=scale)


def _scaled(block: Block.Config, factor: float) -> Block.Config:
    """The block with both branches multiplied."""
    parts = {
        name: Scaled.Config(width=block.width, inner=inner, output_factor=factor)
        for name, inner in (("mixer", block.mixer), ("feed_forward", block.feed_forward))
    }
    return block.replace(**parts)


def write_granite(config: LanguageModel.Config) -> Settings | None:
    """The `GraniteMoeHybridConfig` of a model. Of a kind of layer that it has none of, the sizes are the least."""
    found = without_factors(config)
    if found is None or (shared := blocks_of(found[0])) is None:
        return None
    blocks, settings = shared
    mixers = {type(block.mixer): block.mixer for block in blocks}
    if not mixers.keys() <= {Mamba2.Config, ScaledAttention.Config} or len({b.mixer for b in blocks}) > len(mixers):
        return None
    width, eps = settings["hidden_size"], settings["rms_norm_eps"]
    mamba = mixers.get(Mamba2.Config, Mamba2.Config(width=width, heads=1, head_size=width, eps=eps))
    attention = mixers.get(
        ScaledAttention.Config, ScaledAttention.Config(width=width, heads=1, kv_heads=1, position=None, scale=1.0)
    )
    assert isinstance(mamba, Mamba2.Config)
    assert isinstance(attention, ScaledAttention.Config)
    rest = mamba_settings(mamba, eps)
    if rest is None or not isinstance(attention.position, Rotary.Config | PartialRotary.Config | None):
        return None
    kinds = [(ATTENTION if isinstance(block.mixer, ScaledAttention.Config) else MAMBA)[0] for block in blocks]
    return settings | rest | _attention_settings(attention) | found[1] | {
        "layer_types": kinds,
        "shared_intermediate_size": settings["intermediate_size"],
        "num_local_experts": 0,
        "num_experts_per_tok": 0,
    }  # fmt: skip


def _attention_settings(attention: ScaledAttention.Config) -> Settings:
    turned = attention.position is not None
    return attention_settings(attention) | {
        "attention_multiplier": attention.scale,
        "position_embedding_type": "rope" if turned else None,
    }


def without_factors(config: LanguageModel.Config) -> tuple[LanguageModel.Config, Settings] | None:
    """The model without Granite's factors, and these as settings; `None` for any other model."""
    body = config.body
    if type(body) is not Scaled.Config or type(stack := body.inner) is not Stack.Config:
        return None
    blocks, factors = [], set()
    for block in stack.blocks:
        parts = (block.mixer, block.feed_forward) if type(block) is Block.Config else ()
        if [type(part) for part in parts] != [Scaled.Config] * 2:
            return None
        mixer, feed_forward = (cast(Scaled.Config, part) for part in parts)
        factors |= {(part.input_factor, part.output_factor) for part in (mixer, feed_forward)}
        blocks.append(cast(Block.Config, block).replace(mixer=mixer.inner, feed_forward=feed_forward.inner))
    if len(factors) != 1 or (factor := factors.pop())[0] != 1:
        return None
    settings = {"embedding_multiplier": body.input_factor, "residual_multiplier": factor[1]}
    settings["logits_scaling"] = _reciprocal(body.output_factor)
    return config.replace(body=stack.replace(blocks=tuple(blocks))), settings


def _reciprocal(number: float) -> float:
    """The short number of which another is the rounded reciprocal, if there is one: 49 and not 49.00000000000001."""
    short = float(f"{1 / number:.15g}")
    return short if 1 / short == number else 1 / number


def granite_names(config: LanguageModel.Config) -> dict[str, str]:
    """Their name of every parameter, by ours."""
    found = without_factors(config)
    assert found is not None  # it was read or written as Granite's
    parts = {"before": "post_attention_layernorm", "feed_forward": "shared_mlp", "feed_forward_names": SHARED_NAMES}
    plain = names(found[0], norm="norm", **parts)
    return {_within(ours): theirs for ours, theirs in plain.items()}


def _within(name: str) -> str:
    """A parameter's name, inside the parts that multiply."""
    if name.startswith("body."):
        name = "body.inner." + name.removeprefix("body.")
    for part in (".mixer.", ".feed_forward."):
        name = name.replace(part, f"{part}inner.", 1)
    return name


GRANITE = Scheme("granitemoehybrid", read_granite, write_granite, granite_names)
