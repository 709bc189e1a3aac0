"""Look-back and sinks of dilated attention: beside the laws, which run over the catalogue."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch

import everlong
from everlong.core.errors import ConfigError
from everlong.sequence.dilated import DilatedAttention
from everlong.sequence.dilated_geometry import Stretch
from everlong.sequence.position import Rotary, XPos
from everlong.testing.compare import assert_near
from everlong.testing.split_invariant import run as run_stream
from everlong.testing.stream import Stream, random_layout
from tests.laws.test_placement_invariant import oracle_of

PAPER = ((2048, 4096, 8192, 16384, 32768), (1, 2, 4, 6, 12))
SHAPE: dict[str, Any] = {"width": 16, "heads": 4, "kv_heads": 2, "position": Rotary.Config()}


@pytest.mark.parametrize("seed", range(40))
def test_look_back_and_sinks(seed: int) -> None:
    """Any branches, heads, cuts and documents, with either option or both, against the oracle; with holes."""
    draw = random.Random(seed)
    kv_heads, shared = draw.choice([1, 2, 3]), draw.choice([1, 2, 4])
    rates = (1, *sorted(draw.sample(range(2, 8), 2)))
    lengths = tuple(rate + 8 * i + draw.randint(0, 6) for i, rate in enumerate(rates))
    config = DilatedAttention.Config(
        width=4 * kv_heads * shared,
        heads=kv_heads * shared,
        kv_heads=kv_heads,
        position=draw.choice([None, Rotary.Config(), XPos.Config(scale_base=16.0)]),
        segment_lengths=lengths,
        dilations=rates,
        rotation=draw.randint(0, 2),
        look_back=seed % 3 != 0,
        sinks=draw.randint(1, 9) if seed % 3 != 1 else 0,
    )
    stream = Stream.random(2, 70, config.width)
    stream = random_layout(stream, seed=seed, padding=0.05, ends=0.02) if seed % 2 else stream
    part = config.build().double()
    with torch.no_grad():
        found, _ = run_stream(part, stream, sorted(draw.sample(range(1, 70), 4)))
        y_BTD = oracle_of(config)(dict(part.named_parameters()), stream)
    assert_near(found[stream.mask_BT], y_BTD[stream.mask_BT], 1e-12, "output")


def test_look_back_and_sinks_are_bounded() -> None:
    """Twice the rows of the branches, and the sinks, whatever the length."""
    plain = DilatedAttention.Config(**SHAPE, segment_lengths=(8, 20), dilations=(1, 3))
    part = plain.replace(look_back=True, sinks=5).build()
    most = 2 * 4 * ((2 * 8 + 5) * 2 + 2 * 7 * 4) * 4  # of 2 kv heads: 2 x 8 rows and 5 sinks; of 4 heads: 2 x 7 rows
    sizes = [part.state_bytes(T) for T in (*range(200), 10**6 + 7, 10**9 + 19)]
    assert most * 3 // 4 < max(sizes) <= most


def test_a_decode_step_with_options_is_few_pieces() -> None:
    """No more work than there are pairs, and a handful of pieces, far into a stream."""
    config = DilatedAttention.Config(
        **{**SHAPE, "width": 48, "heads": 12, "kv_heads": 12},
        segment_lengths=PAPER[0],
        dilations=PAPER[1],
        look_back=True,
        sinks=4,
    )
    geometry = config.build().geometry
    for t in (0, 1, 5, 2047, 40_001, 10**6 + 7):
        cached = geometry.entries(t)
        pieces = geometry.pieces(Stretch(1, t, 1, 0, 1, cached, cached + 1))
        assert len(pieces) <= 3 * 5 + 2
        done = sum((piece.query.heads or 12) * piece.query.length * piece.key.length for piece in pieces)
        assert done == geometry.pairs(t + 1) - geometry.pairs(t)


def test_a_negative_number_of_sinks() -> None:
    with pytest.raises(ConfigError, match=r"sinks = -1: must be 0 or more"):
        everlong.build("longnet:nano", sinks=-1)
