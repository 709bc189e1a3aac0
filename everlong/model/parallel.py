"""Parts side by side: they read the same vectors, and their outputs are added (Falcon-H1, arXiv 2507.22448: a Mamba-2
and an attention layer in one)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

from jaxtyping import Float
from torch import Tensor, nn

from everlong.core.config import check
from everlong.core.errors import ContextError
from everlong.core.part import Part
from everlong.core.span import Span


class Parallel(Part):
    """The sum of several parts of one input. State: a tuple, one state a part."""

    class Config(Part.Config):
        parts: tuple[Part.Config, ...]
        """What is added."""

    def __init__(self, config: Parallel.Config) -> None:
        super().__init__()
        check(len(config.parts) >= 1, "parallel.parts", config.parts, "must hold at least one part")
        for i, part in enumerate(config.parts):
            remedy = f"must be the width of the whole, {config.width}"
            check(part.width == config.width, f"parallel.parts[{i}].width", part.width, remedy)
        self.parts = nn.ModuleList(part.build() for part in config.parts)

    def forward(
        self, x_BTD: Float[Tensor, "b t d"], span: Span, state: tuple[Any, ...] | None = None
    ) -> tuple[Float[Tensor, "b t d"], tuple[Any, ...]]:
        if state is not None and len(state) != len(self.parts):
            remedy = f"this has {len(self.parts)}; pass what this very model returned"
            raise ContextError("state", f"states of {len(state)} parts", remedy)
        found = [part(x_BTD, span, s) for part, s in zip(self.parts, state or (None,) * len(self.parts), strict=True)]
        y_BTD = found[0][0]
        for other_BTD, _ in found[1:]:
            y_BTD = y_BTD + other_BTD
        return y_BTD, tuple(after for _, after in found)

    def flops(self, T: int) -> int:
        return sum(part.flops(T) for part in self._parts)

    def state_bytes(self, T: int) -> int:
        return sum(part.state_bytes(T) for part in self._parts)

    def residual_writers(self) -> list[nn.Linear]:
        return [layer for part in self._parts for layer in part.residual_writers()]

    @property
    def _parts(self) -> Iterable[Part]:
        return cast(Iterable[Part], self.parts)
