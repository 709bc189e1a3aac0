"""Position encodings that depend on distance only.

Legend: B batch rows (or 1), T positions, H heads, D head size.

RoPE (Su et al. 2021, arXiv 2104.09864, eq. 15): pair i of a head is turned by the angle m * theta_i at position m,
theta_i = base^(-2i/D), so a score depends on m - n. The pairs are (x_i, x_{i + D/2}), as in Llama.

xPos (Sun et al. 2022, arXiv 2212.10554, eq. 10): moreover queries are scaled by zeta_i^(m/s) and keys by
zeta_i^(-n/s), zeta_i = (2i/D + gamma) / (1 + gamma), gamma = 0.4, s = 512, so a score decays with distance. Either
power alone overflows on a long stream; only distances to a common reference may be formed. So keys are kept
turned but unscaled, and both sides are scaled when they meet.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from everlong.core.config import Config, Configurable, check
from everlong.core.errors import ContextError

SMALLEST_FACTOR = 1e-18  # of xPos within a call: it and its inverse stay well inside float32's range


class Rotary(Configurable):
    """RoPE on all of a head's coordinates."""

    class Config(Config):
        base: float = 10_000.0
        """Base of the geometric series of wavelengths."""

    def __init__(self, config: Rotary.Config) -> None:
        check(config.base > 1, "rotary.base", config.base, "must be above 1; 10000 is usual")
        self.base = config.base

    def turn(
        self, position_BT: Int64[Tensor, "#b t"], *x_BTHD: Float[Tensor, "b t _ d"]
    ) -> tuple[Float[Tensor, "b t _ d"], ...]:
        """Turns queries and keys, of equal head size and dtype, by their positions."""
        first = x_BTHD[0]
        half = first.shape[-1] // 2
        precise = torch.float32 if first.device.type == "mps" else torch.float64  # 1e6 radians need more than float32
        theta_I = self.base ** -(torch.arange(half, device=first.device, dtype=precise) / half)
        angle_BT1I = position_BT[..., None, None] * theta_I
        cos, sin = (f(angle_BT1I).to(first.dtype) for f in (torch.cos, torch.sin))
        own_BT1D, other_BT1D = torch.cat([cos, cos], -1), torch.cat([-sin, sin], -1)
        # x_{i + D/2} is rolled to where x_i stands, and the other way round
        return tuple(torch.addcmul(x * own_BT1D, x.roll(half, dims=-1), other_BT1D) for x in x_BTHD)

    def scales(self, head: int, query_index: Tensor, key_index: Tensor) -> tuple[Tensor, Tensor] | None:
        """Factors (rows, 1, D) for queries and keys that stand at these places of a common axis; `None`: all 1."""
        return None


class XPos(Rotary):
    """RoPE with xPos's decay."""

    class Config(Config):
        base: float = 10_000.0
        """Base of the geometric series of wavelengths."""
        scale_base: float = 512.0
        """s: the distance, in positions, over which the fastest coordinate decays by zeta_0."""
        gamma: float = 0.4

    def __init__(self, config: XPos.Config) -> None:
        super().__init__(Rotary.Config(base=config.base))
        check(config.scale_base > 0, "xpos.scale_base", config.scale_base, "must be positive; 512 in the paper")
        check(config.gamma > 0, "xpos.gamma", config.gamma, "must be positive; 0.4 in the paper")
        self.scale_base, self.gamma = config.scale_base, config.gamma
        self.longest_call = int(self.scale_base * math.log(SMALLEST_FACTOR) / math.log(self.gamma / (1 + self.gamma)))

    def scales(self, head: int, query_index: Tensor, key_index: Tensor) -> tuple[Tensor, Tensor]:
        reference = query_index.amin(-1, keepdim=True)
        self._check_range(query_index.shape[-1])
        i = torch.arange(0, head, 2, device=query_index.device, dtype=torch.float64)
        log_zeta = torch.log((i / head + self.gamma) / (1 + self.gamma)).repeat(2)
        query_distance = (query_index - reference)[..., None, None] / self.scale_base
        key_distance = (reference - key_index).clamp(min=-self.longest_call)[..., None, None] / self.scale_base
        return torch.exp(query_distance * log_zeta), torch.exp(key_distance * log_zeta)

    def _check_range(self, T: int) -> None:
        if self.longest_call < T:
            remedy = f"xPos takes at most {self.longest_call} with these numbers; cut the call and carry the state"
            raise ContextError("positions in one call", T, remedy)


class PartialRotary(Rotary):
    """RoPE on a share of a head's coordinates, the first ones (Black et al. 2022, arXiv 2204.06745); the others do not
    know their position."""

    class Config(Config):
        fraction: float
        """How much of a head is turned."""
        base: float = 10_000.0
        """Base of the geometric series of wavelengths."""

    def __init__(self, config: PartialRotary.Config) -> None:
        super().__init__(Rotary.Config(base=config.base))
        check(0 < config.fraction <= 1, "partial_rotary.fraction", config.fraction, "must be above 0 and at most 1")
        self.fraction = config.fraction

    def turn(
        self, position_BT: Int64[Tensor, "#b t"], *x_BTHD: Float[Tensor, "b t _ d"]
    ) -> tuple[Float[Tensor, "b t _ d"], ...]:
        size = int(x_BTHD[0].shape[-1] * self.fraction)
        check(size % 2 == 0, "partial_rotary.fraction", self.fraction, f"turns {size} coordinates, which are no pairs")
        turned = super().turn(position_BT, *(x[..., :size] for x in x_BTHD))
        return tuple(torch.cat([t, x[..., size:]], dim=-1) for t, x in zip(turned, x_BTHD, strict=True))


Position = Rotary.Config | XPos.Config | PartialRotary.Config
