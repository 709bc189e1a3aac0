"""`Part`: the one contract that everything which maps a sequence to a sequence keeps.

    y_BTD, state = part(x_BTD, span, state)

Six laws make a part correct; `everlong.testing` checks them, and `tests/laws` does for every part in the catalogue:
causal, split-invariant, isolated, bounded, placement-invariant, accounted.
"""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from everlong.core.config import Config, Configurable
from everlong.core.span import Span


class Part(nn.Module, Configurable):
    """A causal map from a sequence to a sequence, with a carried state.

    Subclasses nest a `Config`, and `config.build()` makes the part.
    """

    class Config(Config):
        """Fields every part has."""

        width: int
        """D, the size of a position's vector."""

    def forward(
        self, x_BTD: Float[Tensor, "b t d"], span: Span, state: Any = None
    ) -> tuple[Float[Tensor, "b t d"], Any]:
        """Continues the stream by T positions.

        Args:
            x_BTD: one vector a position.
            span: what these positions are.
            state: `None` at the start of a stream, then what the last call returned.

        Returns:
            One vector a position, and the state after them.
        """
        raise NotImplementedError

    def flops(self, T: int) -> int:
        """Forward FLOPs of the first T positions of a stream, for one batch row.

        The convention: a multiply-add is two FLOPs; matrix products only (no norms, activations or softmax);
        attention counts the query-key pairs that are visible; recurrences count their recurrent definition. So
        the number is that of token-by-token decoding summed over T positions, and does not depend on how a fast
        form blocks the work.
        """
        raise NotImplementedError

    def state_bytes(self, T: int) -> int:
        """Bytes of state after T positions of a plain stream, for one batch row."""
        raise NotImplementedError

    def residual_writers(self) -> list[nn.Linear]:
        """The projections that write this part's output; a stack scales them down by its depth."""
        return []
