"""Over-encoding: n-grams as a larger input vocabulary, without a gate (arXiv 2501.16975).

Legend: B batch rows, T positions, D width, A addresses a position, M = A times the width of a row.

With e_t the rows that the n-grams ending at t address, side by side,

    y_t = x_t + W e_t,

where x_t is the embedding of token t. The paper gives each n-gram table a matrix of its own and takes the mean; the
matrices side by side are W, which the mean scales. The rows are zero at first, and add nothing.
"""

from __future__ import annotations

from jaxtyping import Float, Int64
from torch import Tensor, nn

from everlong.core.accounting import linear_flops
from everlong.core.config import check
from everlong.core.part import Part
from everlong.core.span import Span
from everlong.core.state import State
from everlong.memory.hashing import NGramHash
from everlong.memory.table import Table


class OverEncodingState(State):
    """The last tokens of each row's document, as they are hashed."""

    history_BL: Int64[Tensor, "b l"]


class OverEncoding(Part):
    """Adds the embeddings of n-grams. State: the last N - 1 token ids, constant."""

    class Config(Part.Config):
        hash: NGramHash.Config
        """Which rows the last tokens address."""
        row_width: int
        """Numbers of a row."""

    def __init__(self, config: OverEncoding.Config) -> None:
        super().__init__()
        check(config.width >= 1, "over_encoding.width", config.width, "must be at least 1")
        check(config.row_width >= 1, "over_encoding.row_width", config.row_width, "must be at least 1")
        self.hash = config.hash.build()
        self.table = Table(config.hash.rows, config.row_width)
        self.value = nn.Linear(config.hash.addresses * config.row_width, config.width, bias=False)

    def forward(
        self, x_BTD: Float[Tensor, "b t d"], span: Span, state: OverEncodingState | None = None
    ) -> tuple[Float[Tensor, "b t d"], OverEncodingState]:
        address_BTA, history_BL = self.hash(span, None if state is None else state.history_BL)
        y_BTD = self.value(self.table(address_BTA).flatten(-2))
        return x_BTD + y_BTD.to(x_BTD.dtype), OverEncodingState(history_BL)

    def flops(self, T: int) -> int:
        return linear_flops(self.value, T=T)

    def state_bytes(self, T: int) -> int:
        return 8 * self.hash.lags
