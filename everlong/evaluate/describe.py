"""What a model is made of and what it costs, from its configuration alone: no weight is allocated."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import nn

from everlong.core.config import Config, check
from everlong.core.part import Part
from everlong.evaluate.memory import Memory, training_memory
from everlong.model.language_model import LanguageModel
from everlong.train.precision import Precision

STREAMS = {"1K": 1 << 10, "32K": 1 << 15, "1M": 1 << 20, "1G": 1 << 30}
"""Lengths of stream, in tokens, at which the state is measured."""


@dataclass(frozen=True)
class Node:
    """A module in the tree; modules that stand one after the other and are alike are one node."""

    name: str
    kind: str
    detail: str
    """Its settings, or the sizes of its own parameters."""
    count: int
    """How many modules it stands for."""
    parameters: int
    """Of all of them together, with everything inside; tied ones count where they come first."""
    inside: tuple[Node, ...]


@dataclass(frozen=True)
class Description:
    """A model, part by part, and what it costs."""

    tree: Node
    window: int
    """T, the tokens that FLOPs are the mean over."""
    flops_per_token: float
    """Forward, by the convention of `Part.flops`; training takes three times as much."""
    state_bytes: dict[str, int]
    """After streams of the lengths in `STREAMS`; up to the context limit if the model has one."""
    batch: int
    memory: Memory
    """For training on `batch` rows of `window` tokens."""


def describe(config: LanguageModel.Config, *, window: int, batch: int, precision: Precision) -> Description:
    """Describes the model that a configuration builds.

    Args:
        window: T, tokens of a row in training.
        batch: rows of a training batch.
        precision: of matrix products in training.

    Raises:
        ConfigError: the configuration cannot be built, or a size is below 1.
    """
    check(window >= 1, "window", window, "must be at least 1 token")
    check(batch >= 1, "batch", batch, "must be at least 1 row")
    with torch.device("meta"):
        model = config.build()
    limit = config.context_limit or max(STREAMS.values())
    return Description(
        tree=_node("model", [model], config, set()),
        window=window,
        flops_per_token=model.flops(window) / window,
        state_bytes={name: model.state_bytes(min(length, limit)) for name, length in STREAMS.items()},
        batch=batch,
        memory=training_memory(config, window=window, batch=batch, precision=precision),
    )


def _node(name: str, alike: list[nn.Module], config: Config | None, seen: set[nn.Parameter]) -> Node:
    """The node of modules that are alike, and so have one configuration, if any."""
    fresh = {parameter for module in alike for parameter in module.parameters()} - seen
    inside = tuple(_inside(alike, config, seen))
    seen |= fresh
    parameters = sum(parameter.numel() for parameter in fresh)
    return Node(name, type(alike[0]).__name__, _detail(alike[0], config), len(alike), parameters, inside)


def _inside(alike: list[nn.Module], config: Config | None, seen: set[nn.Parameter]) -> Iterator[Node]:
    """The nodes of their children; a configuration stands in its parent's under the child's name."""
    for name, child in alike[0].named_children():
        own = getattr(config, name, None)
        children = [module.get_submodule(name) for module in alike]
        if isinstance(child, nn.ModuleList):
            yield from _listed(name, children, own or [None] * len(child), seen)
        elif isinstance(child, Part) or any(True for _ in child.parameters()):
            yield _node(name, children, own, seen)


def _listed(
    name: str, lists: list[nn.Module], configs: Sequence[Config | None], seen: set[nn.Parameter]
) -> Iterator[Node]:
    """The nodes of lists that are alike: one for each run of items that are alike."""
    rows = list(zip(*(module.children() for module in lists), strict=True))
    start = 0
    for _, run in groupby(zip(rows, configs, strict=True), key=lambda item: (item[1], repr(item[0][0]))):
        items = list(run)
        last = start + len(items) - 1
        label = f"{name}[{start}]" if last == start else f"{name}[{start}-{last}]"
        yield _node(label, [module for row, _ in items for module in row], items[0][1], seen)
        start = last + 1


def _detail(module: nn.Module, config: Config | None) -> str:
    if config is None:
        sizes = ["×".join(map(str, p.shape)) for p in module.parameters(recurse=False)]
        return ", ".join(sizes)
    values = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    return " ".join(f"{name}={_short(value)}" for name, value in values.items() if not _is_inside(value))


def _short(value: object) -> str:
    return type(value).kind.rpartition(".")[2] if isinstance(value, Config) else str(value)


def _is_inside(value: object) -> bool:
    """Whether a setting is the configuration of a child, which has a node of its own."""
    return isinstance(value, Part.Config) or (isinstance(value, tuple) and any(map(_is_inside, value)))
