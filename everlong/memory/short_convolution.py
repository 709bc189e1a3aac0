"""The short convolution behind n-gram memory (Engram, arXiv 2601.07372, sec. 2.3, eq. 5).

Legend: B batch rows, T positions, D width, K taps, L = (K - 1) dilation positions of the past.

    y_t = silu(sum_j w_j * n_{t - j dilation}),   n_t = rms_norm(x_t),   j = 0 .. K - 1,

one weight a channel and tap (depthwise), nothing before a document's first position. The weights are zero at first, as
in the paper, and so is y. Channels may be several branches side by side, each normalised by itself.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from everlong.core.accounting import Hint, element_bytes
from everlong.core.config import check, check_divides
from everlong.core.norm import RMSNorm
from everlong.core.part import Part
from everlong.core.span import Span
from everlong.core.state import State
from everlong.memory.lags import lagged


class BranchNorm(RMSNorm):
    """RMS normalisation of several branches side by side, each with weights of its own."""

    def __init__(self, width: int, branches: int) -> None:
        super().__init__(width)
        self.branches = branches

    def forward(self, x: Float[Tensor, "*rest d"]) -> Float[Tensor, "*rest d"]:
        if self.branches == 1:
            return super().forward(x)
        apart = x.unflatten(-1, (self.branches, -1))
        return F.rms_norm(apart, apart.shape[-1:], eps=self.eps).flatten(-2) * self.weight.to(x.dtype)


class ShortConvolutionState(State):
    """The last normalised inputs of each row's document; zeros before the first."""

    past_BLD: Float[Tensor, "b l d"]


class ShortConvolution(Part):
    """Normalise, convolve each channel with its last inputs, silu. State: the last L inputs, constant."""

    hints = {"weight_KD": Hint(decay=False, matrix=False)}  # noqa: RUF012

    class Config(Part.Config):
        taps: int = 4
        """K, inputs that an output depends on."""
        dilation: int = 1
        """Positions from one of them to the next."""
        branches: int = 1
        """Branches that the width consists of."""

    def __init__(self, config: ShortConvolution.Config) -> None:
        super().__init__()
        check(config.taps >= 1, "short_convolution.taps", config.taps, "must be at least 1")
        check(config.dilation >= 1, "short_convolution.dilation", config.dilation, "must be at least 1")
        check_divides(config.branches, config.width, "short_convolution.branches", "short_convolution.width")
        self.lags = [j * config.dilation for j in range(config.taps)]
        self.kept = max(self.lags)
        self.norm = BranchNorm(config.width, config.branches)
        self.weight_KD = nn.Parameter(torch.zeros(config.taps, config.width))

    def forward(
        self, x_BTD: Float[Tensor, "b t d"], span: Span, state: ShortConvolutionState | None = None
    ) -> tuple[Float[Tensor, "b t d"], ShortConvolutionState]:
        before_BLD = None if state is None else state.past_BLD
        inputs, after_BLD = lagged(self.norm(x_BTD), span, before_BLD, self.lags, kept=self.kept, fill=0.0)
        weight_KD = self.weight_KD.to(x_BTD.dtype)
        taps = [weight_D * input_BTD for weight_D, input_BTD in zip(weight_KD, inputs, strict=True)]
        return F.silu(sum(taps[1:], taps[0])), ShortConvolutionState(after_BLD)

    def flops(self, T: int) -> int:
        return 0  # no matrix product

    def state_bytes(self, T: int) -> int:
        return self.kept * self.weight_KD.shape[1] * element_bytes(self)
