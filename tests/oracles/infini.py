"""Infini-attention, segment by segment, and recurrent memory.

Legend: T positions of one document, N positions of a segment, H query heads, G key/value heads, E head size.
"""

from __future__ import annotations

import torch
from torch import Tensor

from everlong.memory.recurrent_memory import RecurrentMemory
from everlong.sequence.infini import InfiniAttention
from everlong.sequence.infini_memory import Delta, GatedDelta, Linear, Update
from tests.oracles.parts import Weights, heads, oracle, phi, run, under
from tests.oracles.pattern import scores


@oracle(InfiniAttention.Config)
def infini(config: InfiniAttention.Config, weights: Weights, x_TD: Tensor, _ids_T: Tensor) -> Tensor:
    """A = g A_mem + (1 - g) A_dot (eq. 10); g = 0 in the first segment. A segment is read, then written."""
    E, N = config.width // config.heads, config.segment
    q_HTE, k_GTE, v_GTE = (heads(x_TD @ weights[f"{name}.weight"].T, E) for name in "qkv")
    outputs = []
    for h in range(config.heads):
        g = h * config.kv_heads // config.heads
        gate, s_TT = torch.sigmoid(weights["gate"][h]), scores(config.position, q_HTE[h], k_GTE[g]) / E**0.5
        m_EE, z_E, rows = x_TD.new_zeros(E, E), x_TD.new_zeros(E), []
        for begin in range(0, len(x_TD), N):
            q_NE, k_NE, v_NE = (x[begin : begin + N] for x in (q_HTE[h], k_GTE[g], v_GTE[g]))
            s_NN = s_TT[begin : begin + N, begin : begin + N]
            a_NE = s_NN.masked_fill(torch.ones_like(s_NN).triu(1) > 0, -torch.inf).softmax(-1) @ v_NE
            if begin:
                recalled_NE = phi(q_NE) @ m_EE / (phi(q_NE) @ z_E)[:, None]
                a_NE = gate * recalled_NE + (1 - gate) * a_NE
            rows.append(a_NE)
            if len(q_NE) == N:
                m_EE, z_E = write(config.update, under(weights, "update."), g, m_EE, z_E, k_NE, v_NE)
        outputs.append(torch.cat(rows))
    return torch.cat(outputs, dim=1) @ weights["out.weight"].T


def write(
    update: Update.Config, weights: Weights, g: int, m_EE: Tensor, z_E: Tensor, k_NE: Tensor, v_NE: Tensor
) -> tuple[Tensor, Tensor]:
    """M' and z' of one head, position by position."""
    s_NE, strength_N, decay = phi(k_NE), torch.ones_like(k_NE[:, 0]), 1.0
    if isinstance(update, GatedDelta.Config):
        strength_N = 1 / (1 + torch.exp(-(k_NE @ weights["strength_key"][g] + weights["strength_bias"][g])))
        forget_N = torch.log(1 + torch.exp(k_NE @ weights["decay_key"][g] + weights["decay_bias"][g]))
        decay = torch.exp(-forget_N.mean())
    m_EE, z_E = decay * m_EE, decay * z_E
    after_E = z_E + (strength_N[:, None] * s_NE).sum(0)
    divisor_E = {Linear.Config: None, Delta.Config: z_E}.get(type(update), after_E)
    new_EE = m_EE.clone()
    for s_E, v_E, strength in zip(s_NE, v_NE, strength_N, strict=True):
        if divisor_E is not None and z_E.any():
            v_E = v_E - s_E @ m_EE / (s_E @ divisor_E)
        new_EE = new_EE + strength * s_E[:, None] * v_E[None]
    return new_EE, after_E


@oracle(RecurrentMemory.Config)
def recurrent_memory(config: RecurrentMemory.Config, weights: Weights, x_TD: Tensor, ids_T: Tensor) -> Tensor:
    """[m; X; m] for every segment; m' is the answer at the last places."""
    m_MD, M, N, outputs = weights["memory"], config.memories, config.segment, []
    for begin in range(0, len(x_TD), N):
        x_ND, ids_N = x_TD[begin : begin + N], ids_T[begin : begin + N]
        zeros_M = ids_T.new_zeros(M)
        around = torch.cat([m_MD, x_ND, m_MD]), torch.cat([zeros_M, ids_N, zeros_M])
        y_LD = run(config.inner, under(weights, "inner."), *around)
        outputs.append(y_LD[M : M + len(x_ND)])
        m_MD = y_LD[-M:]
    return torch.cat(outputs)
