"""The oracles of parts: each the paper's equation, one position after the other, in whatever dtype its input has.

Legend: T positions of one document, D width, E head size.

A file of this folder defines the oracles of an architecture and registers each with `@oracle(Part.Config)`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from everlong import Config, LanguageModel

Weights = Mapping[str, Tensor]
Oracle = Callable[[Any, Weights, Tensor, Tensor], Tensor]
"""From configuration, weights by name, vectors (T, D) and ids (T) of a document to its outputs."""

ORACLES: dict[type[Config], Oracle] = {}


def oracle(*configs: type[Config]) -> Callable[[Oracle], Oracle]:
    """Registers a function as the oracle of parts, by their configurations."""

    def register(function: Oracle) -> Oracle:
        for config in configs:
            assert config not in ORACLES, f"two oracles of {config}"
            ORACLES[config] = function
        return function

    return register


def run(config: Config, weights: Weights, x_TD: Tensor, ids_T: Tensor) -> Tensor:
    """What the part of a configuration answers to one document, of vectors and token ids."""
    if type(config) is LanguageModel.Config:
        inner = under(weights, "model.")
        x_TD = inner["embedding.weight"][ids_T] + x_TD  # the catalogue adds the vectors to the embeddings
        return run(config.body, under(inner, "body."), x_TD, ids_T) @ inner["head.weight"].T
    return ORACLES[type(config)](config, weights, x_TD, ids_T)


def under(weights: Weights, prefix: str) -> Weights:
    """The weights of a child."""
    return {name.removeprefix(prefix): weight for name, weight in weights.items() if name.startswith(prefix)}


def norm(x_TD: Tensor, weight_D: Tensor, eps: float = 1e-6) -> Tensor:
    """x / rms(x) * g."""
    return x_TD / (x_TD.square().mean(-1, keepdim=True) + eps).sqrt() * weight_D


def heads(x_TD: Tensor, E: int) -> Tensor:
    """(heads, T, E)."""
    return torch.stack(x_TD.split(E, dim=1))


def phi(x: Tensor) -> Tensor:
    return torch.where(x > 0, x + 1, torch.exp(x.clamp(max=0)))
