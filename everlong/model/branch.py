"""A single residual branch: x + inner(norm(x)), a layer without the feed-forward that a block has."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from everlong.core.config import check
from everlong.core.norm import RMSNorm
from everlong.core.part import Part
from everlong.core.span import Span


class Branch(Part):
    """One pre-norm residual branch. State: the inner part's."""

    class Config(Part.Config):
        inner: Part.Config
        """What reads the normalised vectors, and is added."""
        eps: float = 1e-6
        """What the norm adds to the mean square."""

    def __init__(self, config: Branch.Config) -> None:
        super().__init__()
        remedy = f"must be the branch's width, {config.width}"
        check(config.inner.width == config.width, "branch.inner.width", config.inner.width, remedy)
        self.norm, self.inner = RMSNorm(config.width, config.eps), config.inner.build()

    def forward(
        self, x_BTD: Float[Tensor, "b t d"], span: Span, state: Any = None
    ) -> tuple[Float[Tensor, "b t d"], Any]:
        y_BTD, state = self.inner(self.norm(x_BTD), span, state)
        return x_BTD + y_BTD, state

    def flops(self, T: int) -> int:
        return self.inner.flops(T)

    def state_bytes(self, T: int) -> int:
        return self.inner.state_bytes(T)

    def residual_writers(self) -> list[nn.Linear]:
        return self.inner.residual_writers()
