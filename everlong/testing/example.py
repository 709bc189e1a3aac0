"""Parts as the laws look at them: in float64, and with weights so large that the output depends on everything."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from everlong.core.config import Config
from everlong.core.part import Part
from everlong.core.span import Span
from everlong.model.language_model import LanguageModel


class Embedded(Part):
    """A language model as a part: the vectors are added to its embeddings, and logits come out."""

    def __init__(self, model: LanguageModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, x_BTD: Tensor, span: Span, state: Any = None) -> tuple[Tensor, Any]:
        def add(_module: nn.Module, _inputs: Any, embedded_BTD: Tensor) -> Tensor:
            return embedded_BTD + x_BTD

        hook = self.model.embedding.register_forward_hook(add)
        try:
            output = self.model(span.ids_BT, state, documents=span.document_BT, real=span.real_BT)
        finally:
            hook.remove()
        for name, loss in output.auxiliary.items():
            span.report(name, loss)
        return output.logits, output.state

    def flops(self, T: int) -> int:
        return self.model.flops(T)

    def state_bytes(self, T: int) -> int:
        return self.model.state_bytes(T)


def width(config: Config) -> int:
    """D, of a part or of a model's body."""
    return (config.body if isinstance(config, LanguageModel.Config) else config).width  # type: ignore[attr-defined]


def make(config: Config) -> Part:
    """Builds a part or a language model in float64, with weights so large that the output depends on everything."""
    part = config.build().double().eval()
    shake(part)
    return Embedded(part) if isinstance(part, LanguageModel) else part


def shake(module: nn.Module, seed: int = 0) -> None:
    """Replaces all parameters: matrices keep the size of what they map, the rest lies around one."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        draw = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        fresh = 1.5 * draw / parameter[0].numel() ** 0.5 if parameter.ndim > 1 else 1 + 0.3 * draw.tanh()
        parameter.data.copy_(fresh)
