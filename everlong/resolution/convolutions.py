"""Causal convolutions on the bytes of a patch, before they are one (MEGABYTE, arXiv 2305.07185, sec. 2.3.1).

Legend: B batch rows, T positions of this call, G width of a byte, K taps, L = K - 1 positions of the past.

    h_t <- h_t + relu(b + sum_{j < K} W_j h_{t-j}),   for K = 3, 5, 7, one after the other,

with zeros before a document's first position. So a byte in a patch knows its left context, whatever the patch's place.
The paper gives no more than the sizes; that a layer is added to its input, and the ReLU, are chosen here.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from everlong.core.accounting import element_bytes, linear_flops
from everlong.core.config import check
from everlong.core.part import Part
from everlong.core.span import Span
from everlong.core.state import State
from everlong.resolution.chunks import previous, real_positions


class ConvolutionsState(State):
    """Of every layer the last L inputs of each row's document, the latest first; zeros before its first."""

    past_BLG: tuple[Float[Tensor, "b _ g"], ...]


class Convolutions(Part):
    """Residual causal convolutions, dense over the channels. State: the last inputs of each, constant."""

    class Config(Part.Config):
        taps: tuple[int, ...] = (3, 5, 7)
        """K, inputs that an output of each layer depends on."""

    def __init__(self, config: Convolutions.Config) -> None:
        super().__init__()
        check(bool(config.taps), "convolutions.taps", config.taps, "must name at least one layer, as (3, 5, 7)")
        check(min(config.taps) >= 2, "convolutions.taps", config.taps, "must be at least 2 each, as (3, 5, 7)")
        self.taps, G = config.taps, config.width
        self.layers = nn.ModuleList(nn.Linear(K * G, G) for K in config.taps)

    def forward(
        self, x_BTD: Float[Tensor, "b t d"], span: Span, state: ConvolutionsState | None = None
    ) -> tuple[Float[Tensor, "b t d"], ConvolutionsState]:
        B, _, G = x_BTD.shape
        pasts = []
        for i, (K, layer) in enumerate(zip(self.taps, self.layers, strict=True)):
            past_BLG = x_BTD.new_zeros(B, K - 1, G) if state is None else state.past_BLG[i].to(x_BTD.dtype)
            heard_BTX, past_BLG = _heard(x_BTD, span, past_BLG)
            x_BTD = x_BTD + F.relu(layer(heard_BTX))
            pasts.append(past_BLG)
        return x_BTD, ConvolutionsState(tuple(pasts))

    def flops(self, T: int) -> int:
        return sum(linear_flops(layer, T=T) for layer in self.layers)  # type: ignore[arg-type]  # all are linear

    def state_bytes(self, T: int) -> int:
        kept = sum(K - 1 for K in self.taps)
        return kept * self.layers[0].out_features * element_bytes(self)  # type: ignore[operator]


def _heard(x_BTG: Tensor, span: Span, past_BLG: Tensor) -> tuple[Tensor, Tensor]:
    """Every position beside the L before it in its document (B, T, K G), and the past after the call."""
    real_BT, lag_BTG, lags, after = real_positions(span), x_BTG, [x_BTG], []
    for before_BG in past_BLG.unbind(1):  # what is j back is what is j - 1 back at the position before
        lag_BTG, last_BG = previous(lag_BTG, real_BT, before_BG)
        if span.start_BT is not None:
            lag_BTG = torch.where(span.start_BT[..., None], 0, lag_BTG)
        lags.append(lag_BTG)
        after.append(last_BG)
    return torch.cat(lags, dim=-1), torch.stack(after, dim=1)
