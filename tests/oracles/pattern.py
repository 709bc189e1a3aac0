"""Which positions a query sees, and how the distance between two positions turns their score.

Legend: T positions of one document, E head size, I pairs of a head (E/2).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

from everlong.sequence.attention import Attention, WindowAttention
from everlong.sequence.blockwise import BlockwiseAttention
from everlong.sequence.patch_attention import PatchAttention
from everlong.sequence.position import Position, XPos
from everlong.sequence.sparse import SparseAttention

SHOWN: ContextVar[Tensor | None] = ContextVar("SHOWN", default=None)
"""The true positions of what an oracle is shown; `None`: all of a document."""


@contextmanager
def shown_only(chosen: Sequence[int]) -> Iterator[None]:
    """Inside, an oracle sees these positions only. They are turned by their true places; what counts positions, such as
    a window or xPos's decay, counts those that are shown."""
    before = SHOWN.get()
    token = SHOWN.set(torch.tensor(chosen) if before is None else before[list(chosen)])
    try:
        yield
    finally:
        SHOWN.reset(token)


def sees(config: Attention.Config, t: int, s: int) -> bool:
    """Whether position t sees position s."""
    if isinstance(config, WindowAttention.Config):
        return t - config.window < s <= t
    if isinstance(config, BlockwiseAttention.Config):
        return s <= t and s // config.block >= t // config.block - 1
    if isinstance(config, PatchAttention.Config):
        return t // config.block * config.block - config.summary <= s <= t
    if isinstance(config, SparseAttention.Config):
        own = s <= t and s // config.block == t // config.block
        summary = s < t // config.block * config.block and s % config.block >= config.block - config.summary
        return own or summary
    return s <= t


def pattern(config: Attention.Config, T: int) -> Tensor:
    """Who sees whom, (T queries, T keys)."""
    return torch.tensor([[sees(config, t, s) for s in range(T)] for t in range(T)])


def scores(position: Position | None, q_TE: Tensor, k_TE: Tensor) -> Tensor:
    """q_m k_n for all pairs. With RoPE, pair i of a head is a complex number that is turned by (m - n) theta_i,
    theta_i = base^(-2i/E); xPos multiplies it by zeta_i^((m - n) / s), zeta_i = (2i/E + gamma) / (1 + gamma)."""
    if position is None:
        return q_TE @ k_TE.T
    E = q_TE.shape[1]
    q_TI, k_TI = (torch.complex(x[:, : E // 2], x[:, E // 2 :]) for x in (q_TE, k_TE))
    pair_I = torch.arange(E // 2, dtype=torch.float64)
    index_T, shown_T = torch.arange(len(q_TE)), SHOWN.get()
    m_minus_n, turned = (
        (place_T[:, None] - place_T[None]).double()[..., None]
        for place_T in (index_T, index_T if shown_T is None else shown_T)
    )
    factor_TTI = torch.exp(1j * turned * position.base ** (-2 * pair_I / E))
    if isinstance(position, XPos.Config):
        zeta_I = (2 * pair_I / E + position.gamma) / (1 + position.gamma)
        factor_TTI = factor_TTI * zeta_I ** (m_minus_n / position.scale_base)
    return (q_TI[:, None] * k_TI[None].conj() * factor_TTI).sum(-1).real
