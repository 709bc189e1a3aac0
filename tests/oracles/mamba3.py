"""Mamba-3, token by token, as the paper's recurrence reads.

Legend: T positions of one document, H heads, P head size, E inner width, G groups, N state size, I turned pairs.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from everlong.sequence.mamba3 import Mamba3
from tests.oracles.mamba import silu, softplus
from tests.oracles.parts import Weights, norm, oracle


@oracle(Mamba3.Config)
def mamba3(config: Mamba3.Config, weights: Weights, x_TD: Tensor, _ids_T: Tensor) -> Tensor:
    """Project, normalise B and C, shift and turn them, recur with both pairs, add D x, gate, project."""
    H, P, G, N = config.heads, config.head_size, config.groups, config.state_size
    E, pairs = H * P, int(N * config.turned) // 2
    parts = (x_TD @ weights["input.weight"].T).split([E, E, G * N, G * N, H, H, H, pairs], dim=1)
    z_TE, x_TE, B_TM, C_TM, dt_TH, A_TH, l_TH, angle_TI = parts
    dt_TH, l_TH = softplus(dt_TH + weights["dt_bias"]), 1 / (1 + torch.exp(-l_TH))
    A_TH = -torch.where(A_TH >= 0, 1 + A_TH, 1 / (1 - A_TH))
    A_TH = torch.where(A_TH > -1e-4, -1e-4, A_TH)
    heads = []
    for h in range(H):
        group = slice(h * G // H * N, (h * G // H + 1) * N)
        k_TN = norm(B_TM[:, group], weights["B_norm"], 1e-5) + weights["B_bias"][h]
        q_TN = norm(C_TM[:, group], weights["C_norm"], 1e-5) + weights["C_bias"][h]
        phase_I, S_NP, rows = x_TD.new_zeros(pairs), x_TD.new_zeros(N, P), []
        last_NP = torch.zeros_like(S_NP)
        for t, v_P in enumerate(x_TE[:, h * P : (h + 1) * P]):
            dt = dt_TH[t, h]
            phase_I = phase_I + math.pi * torch.tanh(angle_TI[t]) * dt
            own_NP = turned(k_TN[t], phase_I)[:, None] * v_P[None]
            alpha, share = torch.exp(A_TH[t, h] * dt), l_TH[t, h]
            S_NP = alpha * S_NP + (1 - share) * dt * alpha * last_NP + share * dt * own_NP
            rows.append(turned(q_TN[t], phase_I) @ S_NP + weights["D"][h] * v_P)
            last_NP = own_NP
        heads.append(torch.stack(rows))
    return (torch.cat(heads, dim=1) * silu(z_TE)) @ weights["out.weight"].T


def turned(x_N: Tensor, phase_I: Tensor) -> Tensor:
    """Pair i of adjacent coordinates, as a complex number, times exp(phase i)."""
    found = list(x_N)
    for i, phase in enumerate(phase_I):
        one, other = found[2 * i], found[2 * i + 1]
        found[2 * i] = one * torch.cos(phase) - other * torch.sin(phase)
        found[2 * i + 1] = one * torch.sin(phase) + other * torch.cos(phase)
    return torch.stack(found)
