"""The delta rule, token by token, as the paper's recurrence reads.

Legend: T positions of one document, H key heads, J value heads, K key size, V value size.
"""

from __future__ import annotations

import torch
from torch import Tensor

from everlong.sequence.delta import DeltaNet
from tests.oracles.mamba import convolution, silu, softplus
from tests.oracles.parts import Weights, oracle


@oracle(DeltaNet.Config)
def delta_net(config: DeltaNet.Config, weights: Weights, x_TD: Tensor, _ids_T: Tensor) -> Tensor:
    """S_t = exp(g_t) (I - beta_t k_t k_t^T) S_{t-1} + beta_t k_t v_t^T, o_t = S_t^T q_t / sqrt(K)."""
    H, J, K, V = config.heads, config.value_heads, config.key_size, config.value_size
    u_TC, z_TE, b_TJ = (x_TD @ weights["input.weight"].T).split([2 * H * K + J * V, J * V, J], dim=1)
    u_TC = silu(convolution(u_TC, weights["convolution.weight"], None))
    q_TM, k_TM, v_TE = u_TC.split([H * K, H * K, J * V], dim=1)
    beta_TJ = config.beta_scale / (1 + torch.exp(-b_TJ))
    g_TJ = torch.zeros_like(b_TJ)
    if config.decay is not None:
        dt_TJ = softplus(x_TD @ weights["decay.input.weight"].T + weights["decay.dt_bias"])
        g_TJ = -torch.exp(weights["decay.A_log"]) * dt_TJ
    outputs = []
    for j in range(J):
        h, S_KV, rows = j * H // J, x_TD.new_zeros(K, V), []
        for t in range(len(x_TD)):
            q_K, k_K = (m_TM[t, h * K : (h + 1) * K] for m_TM in (q_TM, k_TM))
            q_K, k_K = (m_K / (m_K.square().sum() + 1e-6).sqrt() for m_K in (q_K, k_K))
            v_V, beta = v_TE[t, j * V : (j + 1) * V], beta_TJ[t, j]
            transition_KK = torch.eye(K, dtype=x_TD.dtype) - beta * k_K[:, None] * k_K[None]
            S_KV = torch.exp(g_TJ[t, j]) * (transition_KK @ S_KV) + beta * k_K[:, None] * v_V[None]
            rows.append(S_KV.T @ q_K / K**0.5)
        o_TV = torch.stack(rows)
        outputs.append(o_TV / (o_TV.square().mean(-1, keepdim=True) + config.eps).sqrt() * weights["norm"])
    return (torch.cat(outputs, dim=1) * silu(z_TE)) @ weights["out.weight"].T
