"""Mamba and Mamba-2 as transformers has them: layers of a norm and a mixer."""

from __future__ import annotations

import math

from everlong.core.part import Part
from everlong.model.branch import Branch
from everlong.model.huggingface.scheme import Scheme, Settings, refuse_unless, required
from everlong.model.language_model import LanguageModel
from everlong.model.stack import Stack
from everlong.sequence.mamba import Mamba2
from everlong.sequence.mamba1 import Mamba1

MAMBA2_NAMES = {
    "input.weight": "in_proj.weight",
    "convolution.weight": "conv1d.weight",
    "convolution.bias": "conv1d.bias",
    "dt_bias": "dt_bias",
    "A_log": "A_log",
    "D": "D",
    "norm.weight": "norm.weight",
    "out.weight": "out_proj.weight",
}
"""Of a Mamba-2 layer; also in the hybrids."""

MAMBA1_NAMES = {
    "input.weight": "in_proj.weight",
    "convolution.weight": "conv1d.weight",
    "convolution.bias": "conv1d.bias",
    "select.weight": "x_proj.weight",
    "step.weight": "dt_proj.weight",
    "step.bias": "dt_proj.bias",
    "A_log": "A_log",
    "D": "D",
    "out.weight": "out_proj.weight",
}


INFINITY = {"__float__": "Infinity"}
"""How transformers writes an infinite number."""


def read_limits(settings: Settings) -> tuple[float, float]:
    """Bounds of the step sizes."""
    low, high = settings.get("time_step_limit") or (0.0, math.inf)
    return float(low), math.inf if high == INFINITY else float(high)


def write_limits(limits: tuple[float, float]) -> list[float | dict[str, str]]:
    """The same as a setting."""
    return [limits[0], INFINITY if limits[1] == math.inf else limits[1]]


def mamba_of(settings: Settings) -> Mamba2.Config:
    """The Mamba-2 layer of a hybrid's settings."""
    refuse_unless(settings, mamba_conv_bias=True, mamba_proj_bias=False, hidden_act="silu")
    fields = ("mamba_n_heads", "mamba_d_head", "mamba_d_state", "mamba_n_groups", "mamba_d_conv", "rms_norm_eps")
    heads, head_size, state_size, groups, taps, eps = required(settings, *fields)
    width, expand = required(settings, "hidden_size", "mamba_expand")
    head_size = int(expand * width) // heads if head_size == "auto" else head_size
    refuse_unless(settings, mamba_expand=heads * head_size / width)
    shape = {"heads": heads, "head_size": head_size, "state_size": state_size, "groups": groups, "taps": taps}
    return Mamba2.Config(width=width, **shape, dt_limits=read_limits(settings), eps=eps)


def mamba_settings(mamba: Mamba2.Config, eps: float) -> Settings | None:
    """The settings of a hybrid's Mamba-2 layer; `None` if its sizes cannot be said, or its norm has another eps."""
    if mamba.heads * mamba.head_size % mamba.width or mamba.eps != eps:
        return None
    return {
        "mamba_n_heads": mamba.heads,
        "mamba_d_head": mamba.head_size,
        "mamba_d_state": mamba.state_size,
        "mamba_n_groups": mamba.groups,
        "mamba_d_conv": mamba.taps,
        "mamba_expand": mamba.heads * mamba.head_size // mamba.width,
        "time_step_limit": write_limits(mamba.dt_limits),
    }


def layered(settings: Settings, mixer: Part.Config) -> LanguageModel.Config:
    """Equal layers of a mixer, as many as the settings say."""
    vocabulary, layers, eps = required(settings, "vocab_size", "num_hidden_layers", "layer_norm_epsilon")
    layer = Branch.Config(width=mixer.width, inner=mixer, eps=eps)
    body = Stack.Config(width=mixer.width, blocks=(layer,) * layers, eps=eps)
    return LanguageModel.Config(vocabulary=vocabulary, body=body, context_limit=None)


def mixer_of(config: LanguageModel.Config, kind: type[Part.Config]) -> tuple[Part.Config, Settings] | None:
    """The mixer of a model of equal layers, and the settings of the whole; `None` for any other model."""
    body = config.body
    if not isinstance(body, Stack.Config) or not isinstance(layer := body.blocks[0], Branch.Config):
        return None
    if type(layer.inner) is not kind or set(body.blocks) != {layer} or layer.eps != body.eps:
        return None
    settings = {"vocab_size": config.vocabulary, "hidden_size": config.body.width, "layer_norm_epsilon": body.eps}
    return layer.inner, settings | {"num_hidden_layers": len(body.blocks), "hidden_act": "silu"}


def read_mamba2(settings: Settings) -> LanguageModel.Config:
    """The model of a `Mamba2Config`."""
    refuse_unless(settings, use_bias=False, use_conv_bias=True, hidden_act="silu", rms_norm=True)
    fields = ("hidden_size", "num_heads", "head_dim", "state_size", "n_groups", "conv_kernel", "layer_norm_epsilon")
    width, heads, head_size, state_size, groups, taps, eps = required(settings, *fields)
    refuse_unless(settings, expand=heads * head_size / width)
    mixer = Mamba2.Config(
        width=width,
        heads=heads,
        head_size=head_size,
        state_size=state_size,
        groups=groups,
        taps=taps,
        dt_limits=read_limits(settings),
        eps=eps,
    )
    return layered(settings, mixer)


def write_mamba2(config: LanguageModel.Config) -> Settings | None:
    """The `Mamba2Config` of a model."""
    found = mixer_of(config, Mamba2.Config)
    if found is None or not isinstance(mixer := found[0], Mamba2.Config) or mixer.eps != found[1]["layer_norm_epsilon"]:
        return None
    inner = mixer.heads * mixer.head_size
    if inner % mixer.width:
        return None
    return found[1] | {
        "num_heads": mixer.heads,
        "head_dim": mixer.head_size,
        "expand": inner // mixer.width,
        "state_size": mixer.state_size,
        "n_groups": mixer.groups,
        "conv_kernel": mixer.taps,
        "time_step_limit": write_limits(mixer.dt_limits),
        "use_bias": False,
        "use_conv_bias": True,
    }


def read_mamba1(settings: Settings) -> LanguageModel.Config:
    """The model of a `MambaConfig`."""
    refuse_unless(settings, use_bias=False, use_conv_bias=True, hidden_act="silu")
    fields = ("hidden_size", "state_size", "conv_kernel", "expand")
    width, state_size, taps, expand = required(settings, *fields)
    rank = settings.get("time_step_rank", "auto")
    rank = math.ceil(width / 16) if rank == "auto" else rank
    mixer = Mamba1.Config(width=width, inner=int(expand * width), rank=rank, state_size=state_size, taps=taps)
    return layered(settings, mixer)


def write_mamba1(config: LanguageModel.Config) -> Settings | None:
    """The `MambaConfig` of a model."""
    found = mixer_of(config, Mamba1.Config)
    if found is None or not isinstance(mixer := found[0], Mamba1.Config) or mixer.inner % mixer.width:
        return None
    return found[1] | {
        "expand": mixer.inner // mixer.width,
        "intermediate_size": mixer.inner,
        "time_step_rank": mixer.rank,
        "state_size": mixer.state_size,
        "conv_kernel": mixer.taps,
        "use_bias": False,
        "use_conv_bias": True,
    }


def names(config: LanguageModel.Config, mixer: dict[str, str]) -> dict[str, str]:
    """Their name of every parameter, by ours."""
    assert isinstance(config.body, Stack.Config)
    found = {"embedding.weight": "backbone.embeddings.weight", "body.norm.weight": "backbone.norm_f.weight"}
    found["head.weight"] = "lm_head.weight"
    for i in range(len(config.body.blocks)):
        found[f"body.blocks.{i}.norm.weight"] = f"backbone.layers.{i}.norm.weight"
        for ours, theirs in mixer.items():
            found[f"body.blocks.{i}.inner.{ours}"] = f"backbone.layers.{i}.mixer.{theirs}"
    return found


MAMBA2 = Scheme("mamba2", read_mamba2, write_mamba2, lambda config: names(config, MAMBA2_NAMES))
MAMBA1 = Scheme("mamba", read_mamba1, write_mamba1, lambda config: names(config, MAMBA1_NAMES))
