"""Linear attention: chunks against the recurrence, and sums that keep their precision."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from everlong import Span
from everlong.sequence import linear_attention
from everlong.sequence.linear_attention import LinearAttention
from everlong.testing.compare import assert_near
from everlong.testing.split_invariant import check_split_invariant
from everlong.testing.stream import Stream, random_layout

CONFIG = LinearAttention.Config(width=8, heads=2)


@pytest.mark.parametrize("chunk", [1, 2, 5, 128])
@given(seed=st.integers(0, 2**16), ragged=st.booleans())
def test_any_chunk(chunk: int, seed: int, ragged: bool) -> None:
    part, stream = CONFIG.build().double(), Stream.random(2, 11, 8, seed)
    stream = random_layout(stream, seed) if ragged else stream
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(linear_attention, "CHUNK", chunk)
        check_split_invariant(part, stream, [1, 2, 7])


def test_state_is_float32_or_better() -> None:
    span = Span.plain_from(torch.zeros(1, 3, dtype=torch.long))
    for dtype, expected in ((torch.bfloat16, torch.float32), (torch.float32, torch.float32), (torch.float64,) * 2):
        y_BTD, state = CONFIG.build().to(dtype)(torch.randn(1, 3, 8, dtype=dtype), span)
        assert y_BTD.dtype == dtype
        assert state.s_BHEF.dtype == state.z_BHE.dtype == expected


def test_autocast_does_not_touch_the_sums() -> None:
    part, span = CONFIG.build(), Span.plain_from(torch.zeros(1, 50, dtype=torch.long))
    with torch.autocast("cpu", torch.bfloat16):
        _, state = part(torch.randn(1, 50, 8), span)
    assert state.s_BHEF.dtype == torch.float32


def test_weights_are_an_average() -> None:
    """All values equal: every output is that value, whatever the keys."""
    part = CONFIG.build().double()
    with torch.no_grad():
        part.v.weight.zero_()
        part.v.weight[:, 0] = 1.0
        part.out.weight.copy_(torch.eye(8))
    x_BTD = torch.randn(1, 20, 8, dtype=torch.float64)
    x_BTD[..., 0] = 3.0
    y_BTD, _ = part(x_BTD, Span.plain_from(torch.zeros(1, 20, dtype=torch.long)))
    assert_near(y_BTD, torch.full_like(y_BTD, 3.0), 1e-12, "average")
