"""Causal softmax attention with scores c q k, in place of q k / sqrt(E): Granite's attention multiplier (after muP,
Yang et al. 2022, arXiv 2203.03466, which takes c = 1 / E).

Legend: as `attention.py`.
"""

from __future__ import annotations

import math

from torch import Tensor

from everlong.core.config import check
from everlong.kernels.pieces import Pieces, Visibility
from everlong.sequence.attention import Attention


class ScaledAttention(Attention):
    """Full causal attention whose scores have a factor of their own. State: as `Attention`."""

    class Config(Attention.Config):
        scale: float
        """c."""

    def __init__(self, config: ScaledAttention.Config) -> None:
        super().__init__(config)
        check(config.scale > 0, "scaled_attention.scale", config.scale, "must be above 0; 1 / sqrt(head size) is usual")
        self.factor = config.scale * math.sqrt(self.head)

    def meet(
        self,
        q_BTHE: Tensor,
        k_BSGE: Tensor,
        v_BSGE: Tensor,
        pieces: Pieces,
        visibility: Visibility | None = None,
    ) -> Tensor:
        return super().meet(q_BTHE * self.factor, k_BSGE, v_BSGE, pieces, visibility)
