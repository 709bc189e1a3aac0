"""What a mutant is, and the numbers that most of them are built with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from everlong import Config, Part, Span
from everlong.sequence.attention import Attention
from everlong.sequence.position import Rotary
from everlong.testing.example import shake

FULL: dict[str, Any] = {"width": 8, "heads": 2, "kv_heads": 2, "position": None}
ROPE: dict[str, Any] = {**FULL, "position": Rotary.Config()}
WINDOW: dict[str, Any] = {**FULL, "window": 3}
LINEAR: dict[str, Any] = {"width": 8, "heads": 2}


@dataclass(frozen=True, repr=False)
class Mutant:
    """A broken part, with the numbers its configuration needs, and a part of what the law says when it catches it, so
    that it is caught for its own fault and not for another."""

    part: Callable[[Any], Part]
    message: str
    numbers: dict[str, Any]
    config: type[Config] = Attention.Config
    width: int = 8

    def make(self) -> Part:
        part = self.part(self.config(**self.numbers)).double()
        shake(part)
        return part

    def __repr__(self) -> str:
        return getattr(self.part, "__name__", str(self.part))


class Toy(Part):
    """A part that is a function; subclasses write `step`."""

    def __init__(self, config: Part.Config) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(config.width))

    def forward(self, x_BTD: Tensor, span: Span, state: Any = None) -> tuple[Tensor, Any]:
        return self.step(x_BTD, span) * self.gain, None

    def step(self, x_BTD: Tensor, span: Span) -> Tensor:
        raise NotImplementedError


def toy(part: type[Toy], message: str) -> Mutant:
    return Mutant(part, message, {"width": 8}, Part.Config)
