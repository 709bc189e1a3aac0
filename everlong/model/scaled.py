"""A part between two constant factors: y = b inner(a x).

Granite (IBM 2024; `GraniteMoeHybrid` of transformers) scales in this way what it adds to the residual stream, its
embeddings, and its logits.
"""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from everlong.core.config import check
from everlong.core.part import Part
from everlong.core.span import Span


class Scaled(Part):
    """A part whose inputs and outputs are multiplied by numbers that are not learnt. State: the inner part's."""

    class Config(Part.Config):
        inner: Part.Config
        """What stands between the factors."""
        input_factor: float = 1.0
        """a."""
        output_factor: float = 1.0
        """b."""

    def __init__(self, config: Scaled.Config) -> None:
        super().__init__()
        remedy = f"must be the width of the whole, {config.width}"
        check(config.inner.width == config.width, "scaled.inner.width", config.inner.width, remedy)
        for field in ("input_factor", "output_factor"):
            check(getattr(config, field) > 0, f"scaled.{field}", getattr(config, field), "must be above 0")
        self.input_factor, self.output_factor = config.input_factor, config.output_factor
        self.inner = config.inner.build()

    def forward(
        self, x_BTD: Float[Tensor, "b t d"], span: Span, state: Any = None
    ) -> tuple[Float[Tensor, "b t d"], Any]:
        y_BTD, state = self.inner(x_BTD * self.input_factor, span, state)
        return y_BTD * self.output_factor, state

    def flops(self, T: int) -> int:
        return self.inner.flops(T)

    def state_bytes(self, T: int) -> int:
        return self.inner.state_bytes(T)

    def residual_writers(self) -> list[nn.Linear]:
        return self.inner.residual_writers()
