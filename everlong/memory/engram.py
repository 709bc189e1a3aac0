"""Engram: what the last few tokens recall, gated by what the model has in mind (arXiv 2601.07372, sec. 2.3).

Legend: B batch rows, T positions, D width, R residual branches, E = D / R, A addresses a position, M = A times the
width of a row.

With e_t the rows that the n-grams ending at t address, side by side, and h_t^r the vector of branch r at t,

    k_t^r = W_K^r e_t,   v_t = W_V e_t,   s_t^r = rms_norm(h_t^r) . rms_norm(k_t^r) / sqrt(E),
    u_t^r = gate(s_t^r) v_t,   y = u, or y = u + short_convolution(u).

A model of one residual stream has R = 1. In a model of several (sec. 2.4), all read one memory through one W_V, each
with a key, norms and a gate of its own; they stand side by side in the vector of a position.

The rows are zero at first, and so is y: inserting an Engram changes nothing.
"""

from __future__ import annotations

from jaxtyping import Float, Int64
from torch import Tensor, nn

from everlong.core.accounting import linear_flops
from everlong.core.config import check, check_divides
from everlong.core.part import Part
from everlong.core.span import Span
from everlong.core.state import State
from everlong.memory.gate import Gate, SignedSquareRoot
from everlong.memory.hashing import NGramHash
from everlong.memory.short_convolution import BranchNorm, ShortConvolution, ShortConvolutionState
from everlong.memory.table import Table


class EngramState(State):
    """What the last tokens of each row's document left."""

    history_BL: Int64[Tensor, "b l"]
    """The tokens, as they are hashed."""
    convolution: ShortConvolutionState | None = None
    """`None`: there is no convolution."""


class Engram(Part):
    """Gated n-gram memory. State: the last N - 1 token ids and the convolution's past, constant."""

    class Config(Part.Config):
        hash: NGramHash.Config
        """Which rows the last tokens address."""
        row_width: int
        """Numbers of a row."""
        gate: Gate.Config = SignedSquareRoot.Config()
        """How far a position lets its memory in."""
        branches: int = 1
        """R, residual streams that the width consists of."""
        convolution: ShortConvolution.Config | None = None
        """Behind the gate; of this width and these branches. `None`: none, as in the released model."""

    def __init__(self, config: Engram.Config) -> None:
        super().__init__()
        D, R = config.width, config.branches
        check(D >= 1, "engram.width", D, "must be at least 1")
        check(config.row_width >= 1, "engram.row_width", config.row_width, "must be at least 1")
        check_divides(R, D, "engram.branches", "engram.width")
        memory = config.hash.addresses * config.row_width
        self.hash, self.gate, self.branches = config.hash.build(), config.gate.build(), R
        self.table = Table(config.hash.rows, config.row_width)
        self.key, self.value = nn.Linear(memory, D, bias=False), nn.Linear(memory, D // R, bias=False)
        self.query_norm, self.key_norm = BranchNorm(D, R), BranchNorm(D, R)
        self.convolution: ShortConvolution | None = None
        if (convolution := config.convolution) is not None:
            remedy = f"must be the memory's, {D} and {R}"
            fits = (convolution.width, convolution.branches) == (D, R)
            check(fits, "engram.convolution", (convolution.width, convolution.branches), remedy)
            self.convolution = convolution.build()

    def forward(
        self, x_BTD: Float[Tensor, "b t d"], span: Span, state: EngramState | None = None
    ) -> tuple[Float[Tensor, "b t d"], EngramState]:
        address_BTA, history_BL = self.hash(span, None if state is None else state.history_BL)
        e_BTM = self.table(address_BTA).flatten(-2)
        u_BTD = self._gated(x_BTD, e_BTM, span)
        if self.convolution is None:
            return u_BTD, EngramState(history_BL)
        y_BTD, past = self.convolution(u_BTD, span, None if state is None else state.convolution)
        return u_BTD + y_BTD, EngramState(history_BL, past)

    def _gated(self, x_BTD: Tensor, e_BTM: Tensor, span: Span) -> Tensor:
        h_BTRE, k_BTRE = (
            each.unflatten(-1, (self.branches, -1)) for each in (self.query_norm(x_BTD), self.key_norm(self.key(e_BTM)))
        )
        gate_BTR1 = self.gate(h_BTRE, k_BTRE)
        span.observe("memory gate", gate_BTR1[..., 0])
        v_BT1E = self.value(e_BTM).to(x_BTD.dtype)[:, :, None]
        return (gate_BTR1.to(x_BTD.dtype) * v_BT1E).flatten(-2)

    def flops(self, T: int) -> int:
        return linear_flops(self.key, self.value, T=T)

    def state_bytes(self, T: int) -> int:
        return 8 * self.hash.lags + (0 if self.convolution is None else self.convolution.state_bytes(T))
