"""H-Net (Hwang, Wang & Gu 2025, arXiv 2507.07955): nested layouts, the authors' configurations, and their weights.

A layout is nested as the model is, each stage a list of encoder, inner stage and decoder, the innermost of one stack:

    ["m4", ["T1m4", ["T27"], "m4T1"], "m4"]

with the letters of `everlong.model.pattern.HNET`. The multiplier of the learning rate of stage s (sec. 3.3), with N^i
the positions a chunk that stage i makes, N = 1 for the innermost, D^s its width, and S the innermost, is

    lambda^s = sqrt(4.6 prod_{i >= s} N^i / prod_i N^i D^S / D^s).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from everlong.core.config import check, check_divides
from everlong.core.errors import CheckpointError
from everlong.core.part import Part
from everlong.model.branch import Branch
from everlong.model.language_model import LanguageModel
from everlong.model.pattern import HNET, layers, stack
from everlong.model.stack import Block, Stack
from everlong.resolution.chunkers import Chunker
from everlong.resolution.hierarchy import Hierarchy
from everlong.resolution.routing import Routing
from everlong.sequence.attention import Attention, WindowAttention
from everlong.sequence.mamba import Mamba2
from everlong.sequence.position import PartialRotary, Position
from everlong.width.swiglu import SwiGLU

EPS = 1e-5  # of the authors' norms


@dataclass(frozen=True, kw_only=True)
class Stage:
    """What the layers of one stage are made of."""

    width: int
    heads: int
    """Of attention."""
    hidden: int
    """Of SwiGLU; not used where the stage's layout has no upper-case letter."""
    window: int | None
    """Positions that attention sees; `None`: all."""
    position: Position | None
    head_size: int = 64
    """Of Mamba-2."""
    state_size: int = 128
    """Of Mamba-2."""
    expand: int = 2
    """Of Mamba-2: its inner width in widths."""
    taps: int = 4
    """Of Mamba-2's convolution."""

    def layer(self, letter: str) -> Part.Config:
        """The layer that a letter stands for."""
        mixer = self._mamba() if letter in "mM" else self._attention()
        if letter in "mt":
            return Branch.Config(width=self.width, inner=mixer, eps=EPS)
        feed_forward = SwiGLU.Config(width=self.width, hidden=self.hidden)
        return Block.Config(width=self.width, mixer=mixer, feed_forward=feed_forward, eps=EPS)

    def stack(self, pattern: str) -> Stack.Config:
        """A stack of these layers."""
        return stack(pattern, {letter: self.layer(letter) for letter in set(layers(pattern, HNET))}).replace(eps=EPS)

    def _mamba(self) -> Mamba2.Config:
        inner = self.expand * self.width
        check_divides(self.head_size, inner, "head_size", "expand * width")
        shape: dict[str, Any] = {"head_size": self.head_size, "state_size": self.state_size, "taps": self.taps}
        return Mamba2.Config(width=self.width, heads=inner // self.head_size, **shape)

    def _attention(self) -> Attention.Config:
        shape = {"width": self.width, "heads": self.heads, "position": self.position}
        return Attention.Config(**shape) if self.window is None else WindowAttention.Config(**shape, window=self.window)


def multipliers(widths: Sequence[int], rates: Sequence[float]) -> list[float]:
    """lambda of every stage; `rates` are the positions a chunk of all stages but the innermost."""
    total = math.prod(rates)
    inside = [math.prod(rates[s:]) for s in range(len(widths))]
    return [math.sqrt(4.6 * rate / total * widths[-1] / width) for rate, width in zip(inside, widths, strict=True)]


def nested(layout: Sequence[Any], stages: Sequence[Stage], chunkers: Sequence[Chunker.Config]) -> Part.Config:
    """The body of an H-Net.

    Args:
        layout: as above.
        stages: from the outermost to the innermost.
        chunkers: of each stage but the innermost.

    Raises:
        ConfigError: a layout that is not nested so, or of another depth than `stages` and `chunkers`.
    """
    _check(layout, len(stages))
    outer = len(stages) - 1
    check(len(chunkers) == outer, "chunkers", chunkers, f"must be one for each of {outer} chunked stages")
    speeds = multipliers([stage.width for stage in stages], [chunker.rate for chunker in chunkers])
    encoders, decoders, main = _patterns(layout)
    body: Part.Config = stages[-1].stack(main)
    inner_speed = speeds[-1]
    for s in reversed(range(outer)):
        encoder, decoder = stages[s].stack(encoders[s]), stages[s].stack(decoders[s])
        body = Hierarchy.Config(
            width=stages[s].width,
            encoder=encoder,
            chunker=chunkers[s],
            inner=body,
            decoder=decoder,
            learning_rate=speeds[s],
            inner_learning_rate=inner_speed,
        )
        inner_speed = 1.0  # the stages inside have multipliers of their own
    return body


def _check(layout: Sequence[Any], depth: int) -> None:
    remedy = f'must be {depth} nested lists, ["m4", [...], "m4"] around ["T22"]'
    innermost = depth == 1 and len(layout) == 1 and isinstance(layout[0], str)
    outer = depth > 1 and len(layout) == 3 and isinstance(layout[1], Sequence) and not isinstance(layout[1], str)
    check(innermost or (outer and isinstance(layout[0], str) and isinstance(layout[2], str)), "layout", layout, remedy)
    if depth > 1:
        _check(layout[1], depth - 1)


def _patterns(layout: Sequence[Any]) -> tuple[list[str], list[str], str]:
    """The patterns of all encoders and decoders, from outside in, and that of the main network."""
    if len(layout) == 1:
        return [], [], layout[0]
    encoders, decoders, main = _patterns(layout[1])
    return [layout[0], *encoders], [layout[2], *decoders], main


def read_config(config: Mapping[str, Any], rates: Sequence[float]) -> LanguageModel.Config:
    """The model of one of the authors' JSON configurations.

    Args:
        config: the file's content.
        rates: positions a chunk of each stage but the innermost; they stand in no file, and only training uses them.

    Raises:
        ConfigError: a field is missing, or asks for something that is not here, such as a tied head.
    """
    for name in ("arch_layout", "d_model", "d_intermediate", "vocab_size", "ssm_cfg", "attn_cfg"):
        check(name in config, name, None, "is missing from the configuration")
    tied = config.get("tie_embeddings", False)
    check(not tied, "tie_embeddings", tied, "must be false, as in all published models")
    ssm, attention = config["ssm_cfg"], config["attn_cfg"]
    mamba = {"state_size": ssm["d_state"], "expand": ssm["expand"], "taps": ssm["d_conv"]}
    stages = [
        Stage(
            width=width,
            hidden=hidden,
            heads=heads,
            window=None if window < 0 else window + 1,  # theirs counts the earlier positions only
            position=PartialRotary.Config(fraction=rotary * heads / width) if rotary else None,
            **mamba,
        )
        for width, hidden, heads, rotary, window in zip(
            config["d_model"],
            config["d_intermediate"],
            attention["num_heads"],
            attention["rotary_emb_dim"],
            attention["window_size"],
            strict=True,
        )
    ]
    chunkers = [Routing.Config(width=s.width, bytes_per_chunk=rate) for s, rate in zip(stages, rates, strict=False)]
    body = nested(config["arch_layout"], stages, chunkers)
    return LanguageModel.Config(vocabulary=config["vocab_size"], body=body, context_limit=None)


Place = tuple[str, int, int]
"""A tensor of the authors' state dict, and which of how many equal parts of its first dimension."""


def load_hnet(model: LanguageModel, tensors: Mapping[str, Tensor]) -> None:
    """Copies a state dict of the authors' names into a model.

    Raises:
        CheckpointError: a tensor is missing, left over, or of another shape; nothing was changed then.
    """
    own, places = dict(model.named_parameters()), dict(places_of(model))
    left = sorted(set(tensors) - {place[0] for place in places.values()})
    if left:
        raise CheckpointError("state dict", left[0], "is of no part of this model: read the model's own configuration")
    found = {}
    for name, (theirs, part, parts) in places.items():
        if theirs not in tensors:
            raise CheckpointError("state dict", theirs, "is missing: it is of another model")
        found[name] = tensors[theirs].chunk(parts)[part]
        told, wanted = list(found[name].shape), list(own[name].shape)
        if told != wanted:
            raise CheckpointError(f"state dict {theirs}", told, f"must be {wanted} for {name}")
    with torch.no_grad():
        for name, tensor in found.items():
            own[name].copy_(tensor)


def places_of(model: LanguageModel) -> Iterator[tuple[str, Place]]:
    """Where each parameter of a model stands in the authors' state dict."""
    yield "embedding.weight", ("embeddings.weight", 0, 1)
    yield "head.weight", ("lm_head.weight", 0, 1)
    yield from _of_stage(model.body, "body", "backbone")


def _of_stage(part: nn.Module, ours: str, theirs: str) -> Iterator[tuple[str, Place]]:
    if not isinstance(part, Hierarchy):
        yield from _of_stack(part, ours, f"{theirs}.main_network")
        return
    for side in ("encoder", "decoder"):
        yield from _of_stack(getattr(part, side), f"{ours}.{side}", f"{theirs}.{side}")
    for name in "qk":
        yield f"{ours}.chunker.{name}.weight", (f"{theirs}.routing_module.{name}_proj_layer.weight", 0, 1)
    for name in ("weight", "bias"):
        yield f"{ours}.residual.{name}", (f"{theirs}.residual_proj.{name}", 0, 1)
    if part.wider is not None:
        yield f"{ours}.wider", (f"{theirs}.main_network.pad_dimension", 0, 1)
    yield from _of_stage(part.inner, f"{ours}.inner", f"{theirs}.main_network")


def _of_stack(part: nn.Module, ours: str, theirs: str) -> Iterator[tuple[str, Place]]:
    yield f"{ours}.norm.weight", (f"{theirs}.rmsnorm.weight", 0, 1)
    for i, block in enumerate(cast(Stack, part).blocks):
        mine, its = f"{ours}.blocks.{i}", f"{theirs}.layers.{i}"
        if isinstance(block, Branch):
            yield f"{mine}.norm.weight", (f"{its}.norm1.weight", 0, 1)
            yield from _of_mixer(block.inner, f"{mine}.inner", f"{its}.mixer")
            continue
        yield f"{mine}.mixer_norm.weight", (f"{its}.norm1.weight", 0, 1)
        yield from _of_mixer(cast(Block, block).mixer, f"{mine}.mixer", f"{its}.mixer")
        yield f"{mine}.feed_forward_norm.weight", (f"{its}.norm2.weight", 0, 1)
        yield f"{mine}.feed_forward.input.weight", (f"{its}.mlp.fc1.weight", 0, 2)
        yield f"{mine}.feed_forward.gate.weight", (f"{its}.mlp.fc1.weight", 1, 2)
        yield f"{mine}.feed_forward.out.weight", (f"{its}.mlp.fc2.weight", 0, 1)


def _of_mixer(mixer: nn.Module, ours: str, theirs: str) -> Iterator[tuple[str, Place]]:
    if isinstance(mixer, Attention):
        for i, name in enumerate("qkv"):
            yield f"{ours}.{name}.weight", (f"{theirs}.Wqkv.weight", i, 3)
        yield f"{ours}.out.weight", (f"{theirs}.out_proj.weight", 0, 1)
        return
    names = {"input.weight": "in_proj.weight", "out.weight": "out_proj.weight", "norm.weight": "norm.weight"}
    names |= {f"convolution.{name}": f"conv1d.{name}" for name in ("weight", "bias")}
    names |= {name: name for name in ("dt_bias", "A_log", "D")}
    for mine, its in names.items():
        yield f"{ours}.{mine}", (f"{theirs}.{its}", 0, 1)
