"""Experts.

Legend: T positions of one document, D width, E experts, F size of an expert's gated layer.
"""

from __future__ import annotations

import torch
from torch import Tensor

from everlong.width.experts import Experts
from everlong.width.experts_balance import BiasBalance
from everlong.width.noop_experts import NoOpExperts
from tests.oracles.parts import Weights, oracle, under
from tests.oracles.stack import swiglu


@oracle(Experts.Config, NoOpExperts.Config)
def experts(config: Experts.Config, weights: Weights, x_TD: Tensor, ids_T: Tensor) -> Tensor:
    """y = c sum s_e f_e(x) / sum s_e over the k experts of largest s_e + b_e, one position and expert at a time;
    f_e = 0 of those behind the E that compute."""
    rows = []
    for x_D in x_TD:
        logit_E = weights["router.weight"] @ x_D
        s_E = (
            1 / (1 + torch.exp(-logit_E))
            if config.score == "sigmoid"
            else torch.exp(logit_E) / torch.exp(logit_E).sum()
        )
        b_E = weights["balance.bias_E"] if isinstance(config.balance, BiasBalance.Config) else 0 * s_E
        preferred = (s_E + b_E).tolist()
        chosen = sorted(range(config.choices), key=preferred.__getitem__, reverse=True)[: config.active]
        total = sum(s_E[e] for e in chosen) if config.active > 1 else 1.0
        computed = [s_E[e] / total * expert(weights, e, x_D, config.hidden) for e in chosen if e < config.experts]
        rows.append(config.scale * sum(computed, torch.zeros_like(x_D)))
    y_TD = torch.stack(rows)
    return y_TD + swiglu(None, under(weights, "common."), x_TD, ids_T) if config.shared else y_TD


def expert(weights: Weights, e: int, x_D: Tensor, F: int) -> Tensor:
    """(silu(x W_gate) * x W_in) W_out."""
    h_2F = x_D @ weights["input.weight"][e]
    gate_F, input_F = h_2F[:F], h_2F[F:]
    return (gate_F / (1 + torch.exp(-gate_F)) * input_F) @ weights["out.weight"][e]
