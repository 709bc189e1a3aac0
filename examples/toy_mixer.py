"""A mixer of one's own in one file: moving averages that the input opens and shuts (docs/add_an_architecture.md).

Legend: B batch rows, T positions, D width, H heads, N = B * H. Each head has a gate p and averages its share of D:

    p_t = sigmoid(w . x_t + b),   h_t = p_t V x_t + (1 - p_t) h_{t-1},   y_t = W h_t
"""

from __future__ import annotations

import torch
from einops import rearrange, repeat
from torch import Tensor, nn

from everlong import Part, Span, State
from everlong.core.accounting import element_bytes, linear_flops
from everlong.core.config import check_divides
from everlong.model.presets.decoder import decoder
from everlong.model.presets.registry import family, within
from everlong.resolution.smoothing import smooth


class AverageState(State):
    h_BHE: Tensor


class Average(Part):
    class Config(Part.Config):
        heads: int

    def __init__(self, config: Average.Config) -> None:
        super().__init__()
        check_divides(config.heads, config.width, "average.heads", "average.width")
        self.heads, self.gate = config.heads, nn.Linear(config.width, config.heads)
        self.value, self.out = (nn.Linear(config.width, config.width, bias=False) for _ in range(2))

    def forward(self, x_BTD: Tensor, span: Span, state: AverageState | None = None) -> tuple[Tensor, AverageState]:
        exact = torch.promote_types(x_BTD.dtype, torch.float32)
        p_NT = rearrange(self.gate(x_BTD).to(exact).sigmoid() * 0.999, "b t h -> (b h) t")
        v_NTE = rearrange(self.value(x_BTD).to(exact), "b t (h e) -> (b h) t e", h=self.heads)
        start_BT = torch.zeros_like(span.ids_BT, dtype=torch.bool) if span.start_BT is None else span.start_BT
        if span.real_BT is not None:
            p_NT = p_NT * repeat(span.real_BT, "b t -> (b h) t", h=self.heads)  # padding changes nothing
        before_NE = torch.zeros_like(v_NTE[:, 0]) if state is None else state.h_BHE.flatten(0, 1)
        with torch.autocast(x_BTD.device.type, enabled=False):
            h_NTE, h_NE = smooth(v_NTE, p_NT, repeat(start_BT, "b t -> (b h) t", h=self.heads), before_NE)
        y_BTD = self.out(rearrange(h_NTE, "(b h) t e -> b t (h e)", h=self.heads).to(x_BTD.dtype))
        return y_BTD, AverageState(h_NE.unflatten(0, (-1, self.heads)).clone())  # a view would keep all of h alive

    def flops(self, T: int) -> int:
        return linear_flops(self.gate, self.value, self.out, T=T)

    def state_bytes(self, T: int) -> int:
        return self.out.in_features * max(4, element_bytes(self))


@family()
@within(decoder)
def average(*, width: int, heads: int) -> Average.Config:
    return Average.Config(width=width, heads=heads)
