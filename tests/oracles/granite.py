"""Granite's constant factors. Legend: T positions of one document, D width."""

from __future__ import annotations

from torch import Tensor

from everlong.model.scaled import Scaled
from everlong.sequence.scaled_attention import ScaledAttention
from tests.oracles.attention import attention
from tests.oracles.parts import Weights, oracle, run, under


@oracle(Scaled.Config)
def scaled(config: Scaled.Config, weights: Weights, x_TD: Tensor, ids_T: Tensor) -> Tensor:
    """b inner(a x)."""
    return config.output_factor * run(config.inner, under(weights, "inner."), config.input_factor * x_TD, ids_T)


@oracle(ScaledAttention.Config)
def scaled_attention(config: ScaledAttention.Config, weights: Weights, x_TD: Tensor, ids_T: Tensor) -> Tensor:
    """Attention whose queries make up for the root that it divides by."""
    factor = config.scale * (config.width // config.heads) ** 0.5
    return attention(config, {**weights, "q.weight": weights["q.weight"] * factor}, x_TD, ids_T)
