"""Mixture-of-Depths.

Legend: T positions of one document, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from everlong.depth.mixture_of_depths import MixtureOfDepths
from everlong.depth.routing import PredictorRule
from tests.oracles.parts import Weights, oracle, run, under
from tests.oracles.pattern import shown_only


@oracle(MixtureOfDepths.Config)
def mixture_of_depths(config: MixtureOfDepths.Config, weights: Weights, x_TD: Tensor, ids_T: Tensor) -> Tensor:
    """y_t = x_t + g(w x_t / rms(x_t)) f_t(x_S) for t in S, else x_t: f the block without its residual, S what the
    rule says of each position, and the first."""
    chosen = [t for t, x_D in enumerate(x_TD) if t == 0 or logit(config, weights, x_D) > 0]
    with shown_only(chosen):
        inner_SD = run(config.inner, under(weights, "inner."), x_TD[chosen], ids_T[chosen])
    rows = list(x_TD)
    for t, y_D in zip(chosen, inner_SD, strict=True):
        r = weights["router.weight"][0] @ unit(x_TD[t])
        g = r if config.weight == "linear" else 1 / (1 + torch.exp(-r))
        rows[t] = x_TD[t] + g * (y_D - x_TD[t])
    return torch.stack(rows)


def logit(config: MixtureOfDepths.Config, weights: Weights, x_D: Tensor) -> Tensor:
    """The rule's: the router's score and an offset, or W_2 silu(W_1 x / rms(x) + b_1) + b_2."""
    x_D = unit(x_D)
    if not isinstance(config.rule, PredictorRule.Config):
        return weights["router.weight"][0] @ x_D + weights["rule.offset"]
    h = weights["rule.input.weight"] @ x_D + weights["rule.input.bias"]
    return weights["rule.out.weight"][0] @ (h / (1 + torch.exp(-h))) + weights["rule.out.bias"][0]


def unit(x_D: Tensor) -> Tensor:
    """x / rms(x)."""
    return x_D / torch.sqrt((x_D * x_D).mean() + 1e-6)
