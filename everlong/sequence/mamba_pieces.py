"""What the layers of the Mamba family share: the short convolution, step sizes, and the gated norm.

Legend: B batch rows, T positions, C channels, K taps, L = K - 1, H heads, E inner width.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from everlong.core.config import check, check_divides
from everlong.core.exact import softplus
from everlong.kernels.causal_convolution import convolve
from everlong.sequence.mamba_rows import Rows

DT_MIN, DT_MAX, DT_FLOOR = 1e-3, 1e-1, 1e-4  # step sizes at the start of training (Gu & Dao 2023, section 3.6)


class CausalConvolution(nn.Conv1d):
    """Depthwise causal convolution and SiLU, with `nn.Conv1d`'s weights (C, 1, K)."""

    def __init__(self, channels: int, taps: int, bias: bool) -> None:
        check(taps >= 1, "convolution taps", taps, "must be at least 1; the last meets the position itself")
        super().__init__(channels, channels, taps, groups=channels, bias=bias)

    def forward(  # type: ignore[override]
        self, u_BTC: Float[Tensor, "b t c"], rows: Rows, past_BLC: Float[Tensor, "*given"] | None
    ) -> tuple[Float[Tensor, "b t c"], Float[Tensor, "b l c"]]:
        """The activated outputs in float32 or better, and the past, in the type of the inputs."""
        exact = torch.promote_types(u_BTC.dtype, torch.float32)
        weight_CK, bias_C = self.weight[:, 0].to(exact), None if self.bias is None else self.bias.to(exact)
        masks = {"documents": rows.document_BT, "count_B": rows.count_B}
        y_BTC, past_BLC = convolve(u_BTC.to(exact), weight_CK, bias_C, past=past_BLC, **masks)
        return F.silu(y_BTC), past_BLC.to(u_BTC.dtype)

    def state_elements(self) -> int:
        """Numbers of the past."""
        return (self.kernel_size[0] - 1) * self.in_channels


class GatedNorm(nn.Module):
    """w = y silu(z), then w / rms(w) * g over each of G groups of channels (Dao & Gu 2024, section 7)."""

    def __init__(self, width: int, groups: int, eps: float) -> None:
        super().__init__()
        check_divides(groups, width, "gated_norm.groups", "gated_norm.width")
        self.groups, self.eps, self.weight = groups, eps, nn.Parameter(torch.ones(width))

    def forward(self, y_BTE: Float[Tensor, "b t e"], z_BTE: Float[Tensor, "b t e"]) -> Float[Tensor, "b t e"]:
        w_BTGE = (y_BTE * F.silu(z_BTE.to(y_BTE.dtype))).unflatten(-1, (self.groups, -1))
        return F.rms_norm(w_BTGE, w_BTGE.shape[-1:], eps=self.eps).flatten(-2) * self.weight.to(y_BTE.dtype)


def initial_dt_bias(size: int) -> Float[Tensor, " h"]:
    """The bias under softplus that makes step sizes log-uniform between `DT_MIN` and `DT_MAX`."""
    low, high = math.log(DT_MIN), math.log(DT_MAX)
    dt = (low + (high - low) * torch.rand(size)).exp().clamp(min=DT_FLOOR)
    return dt + torch.log(-torch.expm1(-dt))


def step_sizes(
    dt_BTH: Float[Tensor, "b t h"], bias_H: Float[Tensor, " h"], limits: tuple[float, float], rows: Rows
) -> Float[Tensor, "b t h"]:
    """softplus(dt + bias), clamped, in float32 or better; 0 where nothing real stands."""
    exact = torch.promote_types(dt_BTH.dtype, torch.float32)
    return rows.mask(softplus(dt_BTH.to(exact) + bias_H.to(exact)).clamp(*limits))


def check_limits(limits: tuple[float, float], field: str) -> None:
    """Raises `ConfigError` unless limits of step sizes make sense."""
    check(len(limits) == 2 and 0 <= limits[0] < limits[1], field, limits, "must be two numbers, 0 <= low < high")
