"""The pieces of every attention are its pattern: each visible pair once, nothing else, and little work besides.

Legend: B batch rows, T new positions, S cached and new positions.
"""

from __future__ import annotations

import pytest
import torch

from everlong.kernels.pieces import Pieces
from everlong.sequence import attention
from everlong.sequence.attention import Attention, WindowAttention
from everlong.sequence.sparse import SparseAttention
from tests.oracles.pattern import pattern
from tests.oracles.pieces import pairs

SHAPE = {"width": 4, "heads": 2, "kv_heads": 1, "position": None}
TS = [(B, T) for B in (1, 3) for T in (1, 2, 4, 5, 9, 11)]
PASTS = (0, 1, 2, 3, 4, 7, 10)


def work(pieces: Pieces) -> int:
    """Pairs that a kernel multiplies, visible or not."""
    return sum(piece.query.count * piece.query.length * piece.key.length for piece in pieces)


def expected(part_pattern: torch.Tensor, B: int, T: int, kept: list[int]) -> torch.Tensor:
    """The pattern of every row on the diagonal: the last T positions as queries, and the kept ones as keys."""
    one = part_pattern[-T:][:, kept]
    return torch.block_diag(*[one] * B)


@pytest.mark.parametrize(("B", "T"), TS)
def test_full(B: int, T: int) -> None:
    config = Attention.Config(**SHAPE)
    for past in PASTS:
        pieces, S = config.build().plain_pieces(B, T, past + T), past + T
        assert torch.equal(pairs(pieces, B, T, S), expected(pattern(config, S).long(), B, T, list(range(S))))
        assert work(pieces) == B * T * S


@pytest.mark.parametrize("window", [1, 2, 3, 4, 7, 20])
@pytest.mark.parametrize(("B", "T"), TS)
def test_window(B: int, T: int, window: int) -> None:
    config = WindowAttention.Config(**SHAPE, window=window)
    for past in PASTS:
        total, cached = past + T, min(past, window - 1)
        kept = list(range(past - cached, total))
        pieces = config.build().plain_pieces(B, T, cached + T)
        found = pairs(pieces, B, T, cached + T)
        assert torch.equal(found, expected(pattern(config, total).long(), B, T, kept)), past
        assert work(pieces) <= B * T * 3 * window  # whatever the length


@pytest.mark.parametrize(("block", "summary"), [(1, 1), (3, 1), (4, 2), (5, 5), (20, 3)])
@pytest.mark.parametrize(("B", "T"), TS)
def test_sparse(B: int, T: int, block: int, summary: int) -> None:
    config = SparseAttention.Config(**SHAPE, block=block, summary=summary)
    for past in PASTS:
        total, begun = past + T, past // block * block  # the block that was current before the call
        summaries = [s for s in range(total // block * block) if s % block >= block - summary]
        kept = summaries + list(range(begun, total))
        M, S = len(summaries), len(kept)
        found = pairs(config.build().sparse_pieces(B, T, S, M), B, T, S)
        wanted = expected(pattern(config, total).long(), B, T, kept)
        twice = torch.tensor([s >= begun for s in summaries] + [False] * (S - M)).repeat(B)
        own = torch.block_diag(*[_same_block(T, total, kept, block)] * B)
        assert torch.equal(found, wanted.where(~(twice & own), 0)), past
        assert work(config.build().sparse_pieces(B, T, S, M)) <= B * T * (block + M)


def _same_block(T: int, total: int, kept: list[int], block: int) -> torch.Tensor:
    """Queries that stand in the block of a key: they see it as itself, not as a summary."""
    return torch.tensor([[t // block == s // block for s in kept] for t in range(total - T, total)])


def test_ragged_work_follows_the_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "QUERY_BLOCK", 4)
    part = WindowAttention.Config(**SHAPE, window=3).build()
    for T in (1, 4, 5, 40):
        pieces = part.ragged_pieces(2, T, T + 2)
        reached = pairs(pieces, 2, T, T + 2)
        wanted = expected(pattern(WindowAttention.Config(**SHAPE, window=3), T + 2), 2, T, list(range(T + 2)))
        assert reached.max() == 1
        assert (reached.bool() >= wanted).all()
        assert work(pieces) <= 2 * T * (4 + 3)
