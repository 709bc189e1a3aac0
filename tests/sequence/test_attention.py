"""Attention in its three forms: wrong numbers are named, caches hold what is needed, and long rows are exact."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from everlong import Config, Span
from everlong.core.errors import ConfigError, ContextError
from everlong.core.state import state_bytes
from everlong.sequence.attention import Attention, WindowAttention
from everlong.sequence.cache import KeyValues, join, keep_last, select
from everlong.sequence.linear_attention import LinearAttention
from everlong.sequence.position import Rotary, XPos
from everlong.sequence.sparse import SparseAttention, SparseKeyValues
from everlong.testing.compare import assert_near
from everlong.testing.split_invariant import run
from everlong.testing.stream import Stream, random_layout
from tests.laws.test_placement_invariant import oracle_of

SHAPE: dict[str, Any] = {"width": 8, "heads": 2, "kv_heads": 1, "position": Rotary.Config()}
WRONG: dict[str, tuple[Config, str]] = {
    "heads": (
        Attention.Config(**{**SHAPE, "heads": 3}),
        r"attention.heads = 3: must divide attention.width = 8: one of",
    ),
    "no heads": (Attention.Config(**{**SHAPE, "heads": 0}), r"attention.heads = 0: must divide"),
    "kv heads": (
        Attention.Config(**{**SHAPE, "kv_heads": 3}),
        r"attention.kv_heads = 3: must divide attention.heads = 2",
    ),
    "no kv heads": (Attention.Config(**{**SHAPE, "kv_heads": 0}), r"attention.kv_heads = 0: must divide"),
    "odd head": (Attention.Config(**{**SHAPE, "width": 6}), r"attention.width / attention.heads = 3: .*even"),
    "no width": (Attention.Config(**{**SHAPE, "width": 0}), r"attention.width = 0: must be at least 1"),
    "window": (WindowAttention.Config(**SHAPE, window=0), r"window_attention.window = 0: must be at least 1"),
    "block": (SparseAttention.Config(**SHAPE, block=0, summary=1), r"sparse_attention.block = 0: must be at least 1"),
    "no summary": (
        SparseAttention.Config(**SHAPE, block=4, summary=0),
        r"sparse_attention.summary = 0: .*between 1 and",
    ),
    "summary": (SparseAttention.Config(**SHAPE, block=4, summary=5), r"sparse_attention.summary = 5: .*length, 4"),
    "linear": (LinearAttention.Config(width=8, heads=3), r"linear_attention.heads = 3: must divide .*width = 8"),
    "no linear width": (LinearAttention.Config(width=0, heads=1), r"linear_attention.width = 0"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_numbers_are_named(name: str) -> None:
    config, named = WRONG[name]
    with pytest.raises(ConfigError, match=named):
        config.build()


def test_odd_heads_need_no_position() -> None:
    part = Attention.Config(width=6, heads=2, kv_heads=2, position=None).build()
    y_BTD, _ = part(torch.randn(1, 3, 6), Span.plain_from(torch.zeros(1, 3, dtype=torch.long)))
    assert y_BTD.isfinite().all()


def test_xpos_refuses_calls_beyond_its_range() -> None:
    part = Attention.Config(**{**SHAPE, "position": XPos.Config(scale_base=4.0)}).build()
    T = part.position.longest_call
    x_BTD, ids_BT = torch.randn(1, T + 1, 8), torch.zeros(1, T + 1, dtype=torch.long)
    with pytest.raises(ContextError, match=f"= {T + 1}"):
        part(x_BTD, Span.plain_from(ids_BT))
    _, state = part(x_BTD[:, :T], Span.plain_from(ids_BT[:, :T]))
    y_BTD, _ = part(x_BTD[:, T:], Span.plain_from(ids_BT[:, T:], torch.tensor([T])), state)
    assert y_BTD.isfinite().all()


LONG: dict[str, Config] = {
    "full": Attention.Config(**SHAPE),
    "full, xPos": Attention.Config(**{**SHAPE, "position": XPos.Config()}),
    "window": WindowAttention.Config(**SHAPE, window=100),
    "sparse": SparseAttention.Config(**SHAPE, block=64, summary=8),
    "linear": LinearAttention.Config(width=8, heads=2),
}


@pytest.mark.parametrize("name", LONG)
@pytest.mark.parametrize("ragged", [False, True], ids=["plain", "ragged"])
def test_long_rows(name: str, ragged: bool) -> None:
    """Across the real borders of blocks and chunks; the laws run with small ones."""
    T = 300 if name == "linear" else 1100
    stream = Stream.random(1, T, 8)
    stream = random_layout(stream, seed=1, padding=0.05, ends=0.002) if ragged else stream
    part = LONG[name].build().double()
    with torch.no_grad():
        found, _ = run(part, stream, [T // 3, T // 3 + 1])
        expected = oracle_of(LONG[name])(dict(part.named_parameters()), stream)
    real_BT = stream.mask_BT
    assert_near(found[real_BT], expected[real_BT], 1e-12, "output")


class TestCache:
    """Keys and values of the past."""

    def test_joins_in_the_new_dtype(self) -> None:
        old, new = torch.ones(1, 2, 1, 4), torch.zeros(1, 3, 1, 4, dtype=torch.bfloat16)
        k_BSGD, v_BSGD = join(KeyValues(old, old), new, new)
        assert k_BSGD.dtype == v_BSGD.dtype == torch.bfloat16
        assert k_BSGD[0, :, 0, 0].tolist() == [1, 1, 0, 0, 0]
        assert join(None, new, old) == (new, old)

    def test_keeps_the_last_rows_only(self) -> None:
        k_BSGD = torch.arange(10.0).view(1, 10, 1, 1)
        kept = keep_last(k_BSGD, k_BSGD, 3)
        assert kept.k_BSGD.flatten().tolist() == [7, 8, 9]
        assert state_bytes(kept) == 2 * 3 * 4
        assert keep_last(k_BSGD, k_BSGD, None).k_BSGD.shape[1] == 10
        assert keep_last(k_BSGD, k_BSGD, 0).k_BSGD.shape[1] == 0

    def test_selects_to_the_right(self) -> None:
        k_BSGD = torch.arange(1.0, 11.0).view(2, 5, 1, 1)
        keep_BS = torch.tensor([[True, False, True, False, True], [False, False, False, True, False]])
        kept = select(keep_BS, k_BSGD, 10 * k_BSGD)
        assert kept.k_BSGD[..., 0, 0].tolist() == [[1, 3, 5], [0, 0, 9]]
        assert kept.v_BSGD[..., 0, 0].tolist() == [[10, 30, 50], [0, 0, 90]]
        assert kept.length_B is not None
        assert kept.length_B.tolist() == [3, 1]

    def test_selects_nothing(self) -> None:
        k_BSGD = torch.ones(2, 3, 1, 1)
        kept = select(torch.zeros(2, 3, dtype=torch.bool), k_BSGD, k_BSGD)
        assert kept.k_BSGD.shape == (2, 0, 1, 1)

    def test_ragged_rows_keep_their_own_length(self) -> None:
        """Row 0 brings four positions, row 1 none, row 2 begins another document."""
        part = Attention.Config(**SHAPE).build()
        stream = Stream.random(3, 4, 8, dtype=torch.float32)
        document_BT = torch.tensor([[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 1, 1]])
        real_BT = torch.tensor([[True] * 4, [False] * 4, [True, True, True, False]])
        _, state = part(stream.x_BTD, Stream(stream.x_BTD, stream.ids_BT, document_BT, real_BT).span)
        assert state.length_B.tolist() == [4, 0, 1]
        assert state.k_BSGD.shape[1] == 4
        assert (state.k_BSGD[1] == 0).all()

    def test_sparse_keeps_summaries_and_the_current_block(self) -> None:
        part = SparseAttention.Config(**SHAPE, block=4, summary=2).build()
        _, state = part(torch.randn(1, 11, 8), Span.plain_from(torch.zeros(1, 11, dtype=torch.long)))
        assert isinstance(state, SparseKeyValues)
        assert state.summary.k_BSGD.shape[1] == 2 * 2
        assert state.block.k_BSGD.shape[1] == 3
        assert state.length_B is None
