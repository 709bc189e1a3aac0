"""Mamba, token by token, as the papers' recurrences read.

Legend: T positions of one document, D width, H heads, P head size, E inner width, G groups, N state size, C channels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from everlong.model.branch import Branch
from everlong.model.parallel import Parallel
from everlong.sequence.mamba import Mamba2
from everlong.sequence.mamba1 import Mamba1
from tests.oracles.parts import Weights, norm, oracle, run, under


def silu(x: Tensor) -> Tensor:
    return x / (1 + torch.exp(-x))


def softplus(x: Tensor) -> Tensor:
    return torch.log1p(torch.exp(x))


def convolution(u_TC: Tensor, weight_C1K: Tensor, bias_C: Tensor | None) -> Tensor:
    """y_t = b + sum_j w_{K-1-j} u_{t-j}."""
    K, rows = weight_C1K.shape[-1], []
    for t in range(len(u_TC)):
        y_C = torch.zeros_like(u_TC[0]) if bias_C is None else bias_C
        for j in range(min(K, t + 1)):
            y_C = y_C + weight_C1K[:, 0, K - 1 - j] * u_TC[t - j]
        rows.append(y_C)
    return torch.stack(rows)


def recurrence(x_THP: Tensor, dt_TH: Tensor, A_H: Tensor, B_TGN: Tensor, C_TGN: Tensor) -> Tensor:
    """S_t = exp(A dt_t) S_{t-1} + B_t (dt_t x_t)^T, y_t = C_t^T S_t, for head h with B and C of group h G / H."""
    T, H, P = x_THP.shape
    G, N = B_TGN.shape[1:]
    heads = []
    for h in range(H):
        S_NP, rows, g = x_THP.new_zeros(N, P), [], h * G // H
        for t in range(T):
            S_NP = torch.exp(A_H[h] * dt_TH[t, h]) * S_NP + B_TGN[t, g][:, None] * (dt_TH[t, h] * x_THP[t, h])[None]
            rows.append(C_TGN[t, g] @ S_NP)
        heads.append(torch.stack(rows))
    return torch.stack(heads, dim=1)


@oracle(Mamba2.Config)
def mamba2(config: Mamba2.Config, weights: Weights, x_TD: Tensor, _ids_T: Tensor) -> Tensor:
    """Split, convolve, recur, add D x, gate, normalise each group, project."""
    H, G, N, E = config.heads, config.groups, config.state_size, config.heads * config.head_size
    T = len(x_TD)
    z_TE, u_TC, dt_TH = (x_TD @ weights["input.weight"].T).split([E, E + 2 * G * N, H], dim=1)
    u_TC = silu(convolution(u_TC, weights["convolution.weight"], weights["convolution.bias"]))
    x_TE, B_TM, C_TM = u_TC.split([E, G * N, G * N], dim=1)
    x_THP = x_TE.reshape(T, H, -1)
    dt_TH = softplus(dt_TH + weights["dt_bias"]).clamp(*config.dt_limits)
    A_H = -torch.exp(weights["A_log"])
    y_THP = recurrence(x_THP, dt_TH, A_H, B_TM.reshape(T, G, N), C_TM.reshape(T, G, N))
    y_TE = (y_THP + weights["D"][:, None] * x_THP).reshape(T, E)
    w_TGJ = (y_TE * silu(z_TE)).reshape(T, G, -1)
    w_TE = (w_TGJ / (w_TGJ.square().mean(-1, keepdim=True) + config.eps).sqrt()).reshape(T, E)
    return (w_TE * weights["norm.weight"]) @ weights["out.weight"].T


@oracle(Mamba1.Config)
def mamba1(config: Mamba1.Config, weights: Weights, x_TD: Tensor, _ids_T: Tensor) -> Tensor:
    """h_t = exp(dt_t A) h_{t-1} + dt_t x_t B_t^T, y_t = h_t C_t + D x_t."""
    N = config.state_size
    x_TE, z_TE = (x_TD @ weights["input.weight"].T).chunk(2, dim=1)
    x_TE = silu(convolution(x_TE, weights["convolution.weight"], weights["convolution.bias"]))
    r_TR, B_TN, C_TN = (x_TE @ weights["select.weight"].T).split([config.rank, N, N], dim=1)
    dt_TE = softplus(r_TR @ weights["step.weight"].T + weights["step.bias"])
    A_EN, h_EN, rows = -torch.exp(weights["A_log"]), x_TD.new_zeros(config.inner, N), []
    for x_E, dt_E, B_N, C_N in zip(x_TE, dt_TE, B_TN, C_TN, strict=True):
        h_EN = torch.exp(dt_E[:, None] * A_EN) * h_EN + (dt_E * x_E)[:, None] * B_N[None]
        rows.append(h_EN @ C_N + weights["D"] * x_E)
    return (torch.stack(rows) * silu(z_TE)) @ weights["out.weight"].T


@oracle(Branch.Config)
def branch(config: Branch.Config, weights: Weights, x_TD: Tensor, ids_T: Tensor) -> Tensor:
    """x + inner(norm(x))."""
    normed_TD = norm(x_TD, weights["norm.weight"], config.eps)
    return x_TD + run(config.inner, under(weights, "inner."), normed_TD, ids_T)


@oracle(Parallel.Config)
def parallel(config: Parallel.Config, weights: Weights, x_TD: Tensor, ids_T: Tensor) -> Tensor:
    """The sum of all parts."""
    return sum(run(part, under(weights, f"parts.{i}."), x_TD, ids_T) for i, part in enumerate(config.parts))  # type: ignore[return-value]
