"""The pieces of every attention are its pattern: each visible pair once, nothing else, and little work besides.

Legend: B batch rows, T new positions, S cached and new positions.
"""

from __future__ import annotations

import pytest
import torch

from everlong.kernels.pieces import Pieces
from everlong.sequence import attention
from everlong.sequence.attention import Attention, WindowAttention
from everlong.sequence.blockwise import BlockwiseAttention
from everlong.sequence.sparse import SparseAttention
from tests.oracles.pattern import pattern
from tests.oracles.pieces import pairs

SHAPE = {"width": 4, "heads": 2, "kv_heads": 1, "position": None}
TS = [(B, T) for B in (1, 3) for T in (1, 2, 4, 5, 9, 11)]
PASTS = (0, 1, 2, 3, 4, 7, 10)


def work(pieces: Pieces) -> int:
    """Pairs that a kernel multiplies, visible or not."""
    return sum(piece.query.count * piece.query.length * piece.key.length for piece in pieces)


def by_position(pieces: Pieces, B: int, T: int, places: list[int], total: int) -> torch.Tensor:
    """How often every query sees every position of its row, (B, T, total), when `places` are the positions that the
    joined places hold; other rows must not be seen."""
    S = len(places)
    count = pairs(pieces, B, T, S).view(B, T, B, S)
    seen = torch.zeros(B, T, total, dtype=torch.long)
    for b in range(B):
        seen[b].index_add_(1, torch.tensor(places), count[b, :, b])
    assert seen.sum() == count.sum(), "a row sees another"
    return seen


def assert_is_pattern(config: Attention.Config, pieces: Pieces, B: int, T: int, places: list[int]) -> None:
    total = places[-1] + 1
    seen = by_position(pieces, B, T, places, total)
    assert torch.equal(seen, pattern(config, total)[-T:].long().expand(B, -1, -1)), (B, T, places)


@pytest.mark.parametrize(("B", "T"), TS)
def test_full(B: int, T: int) -> None:
    config = Attention.Config(**SHAPE)
    for past in PASTS:
        pieces = config.build().plain_pieces(B, T, past + T)
        assert_is_pattern(config, pieces, B, T, list(range(past + T)))
        assert work(pieces) == B * T * (past + T)


@pytest.mark.parametrize("window", [1, 2, 3, 4, 7, 20])
@pytest.mark.parametrize(("B", "T"), TS)
def test_window(B: int, T: int, window: int) -> None:
    config = WindowAttention.Config(**SHAPE, window=window)
    for past in PASTS:
        cached = min(past, window - 1)
        pieces = config.build().plain_pieces(B, T, cached + T)
        assert_is_pattern(config, pieces, B, T, list(range(past - cached, past + T)))
        assert work(pieces) <= B * T * 3 * window  # whatever the length


@pytest.mark.parametrize("block", [1, 3, 4, 20])
@pytest.mark.parametrize(("B", "T"), TS)
def test_blockwise(B: int, T: int, block: int) -> None:
    config = BlockwiseAttention.Config(**SHAPE, block=block)
    for past in PASTS:
        part = config.build()
        cached = part.cached_positions(past)
        pieces = part.plain_pieces(B, T, cached + T)
        assert_is_pattern(config, pieces, B, T, list(range(past - cached, past + T)))
        assert work(pieces) <= B * T * 2 * block


@pytest.mark.parametrize(("block", "summary"), [(1, 1), (3, 1), (4, 2), (5, 5), (20, 3)])
@pytest.mark.parametrize(("B", "T"), TS)
def test_sparse(B: int, T: int, block: int, summary: int) -> None:
    """A position of a block that is finished in the call stands in two places: in its block, and as a summary."""
    config = SparseAttention.Config(**SHAPE, block=block, summary=summary)
    for past in PASTS:
        total, current = past + T, past // block * block
        summaries = [s for s in range(total // block * block) if s % block >= block - summary]
        places = summaries + list(range(current, total))
        pieces = config.build().sparse_pieces(B, T, len(places), len(summaries))
        assert_is_pattern(config, pieces, B, T, places)
        assert work(pieces) <= B * T * (block + len(summaries))


def test_ragged_work_follows_the_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "QUERY_BLOCK", 4)
    part = WindowAttention.Config(**SHAPE, window=3).build()
    for T in (1, 4, 5, 40):
        pieces = part.ragged_pieces(2, T, T + 2)
        seen = by_position(pieces, 2, T, list(range(T + 2)), T + 2)
        assert seen.max() == 1
        assert (seen.bool() >= pattern(WindowAttention.Config(**SHAPE, window=3), T + 2)[-T:]).all()
        assert work(pieces) <= 2 * T * (4 + 3)
