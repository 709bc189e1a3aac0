"""SwiGLU: its equation stands in the oracles; here, what it refuses and what it costs."""

from __future__ import annotations

import pytest
import torch

from everlong import Span
from everlong.core.errors import ConfigError
from everlong.width.swiglu import SwiGLU


def test_wrong_numbers_are_named() -> None:
    with pytest.raises(ConfigError, match=r"swiglu.hidden = 0: must be at least 1"):
        SwiGLU.Config(width=8, hidden=0).build()
    with pytest.raises(ConfigError, match=r"swiglu.width = 0: must be at least 1"):
        SwiGLU.Config(width=0, hidden=8).build()


def test_positions_do_not_meet() -> None:
    part, x_BTD = SwiGLU.Config(width=4, hidden=6).build(), torch.randn(2, 5, 4)
    y_BTD, state = part(x_BTD, Span.plain_from(torch.zeros(2, 5, dtype=torch.long)))
    assert state is None
    single, _ = part(x_BTD[1:, 3:4], Span.plain_from(torch.zeros(1, 1, dtype=torch.long)))
    assert torch.allclose(single[0, 0], y_BTD[1, 3], atol=1e-6)
    assert part.state_bytes(10**9) == 0
    assert part.flops(7) == 7 * 2 * 3 * 4 * 6
