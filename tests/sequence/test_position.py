"""Position encodings against their formulas, and far out."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from everlong.core.errors import ConfigError, ContextError
from everlong.sequence.position import Rotary, XPos
from everlong.testing.compare import assert_near
from tests.oracles.pattern import scores

ROPE = Rotary.Config()


def turned_score(rotary: Rotary, q_E: Tensor, m: int, k_E: Tensor, n: int) -> Tensor:
    """The score of a query at m and a key at n."""
    q, k = (rotary.turn(torch.tensor([[p]]), x.view(1, 1, 1, -1))[0].flatten() for x, p in ((q_E, m), (k_E, n)))
    return q @ k


@pytest.mark.parametrize("base", [10_000.0, 100.0])
def test_rope_is_the_formula(base: float) -> None:
    """Pair (x_i, x_{i + E/2}) is turned by m base^(-2i/E), written out."""
    E, m = 6, 11
    x_E = torch.randn(E, dtype=torch.float64)
    found = Rotary.Config(base=base).build().turn(torch.tensor([[m]]), x_E.view(1, 1, 1, E))[0].flatten()
    for i in range(E // 2):
        angle = m * base ** (-2 * i / E)
        a, b = x_E[i].item(), x_E[i + E // 2].item()
        assert math.isclose(found[i], a * math.cos(angle) - b * math.sin(angle), abs_tol=1e-14)
        assert math.isclose(found[i + E // 2], a * math.sin(angle) + b * math.cos(angle), abs_tol=1e-14)


def test_rope_at_zero_changes_nothing() -> None:
    x_BTHE = torch.randn(2, 1, 3, 8)
    assert torch.equal(ROPE.build().turn(torch.zeros(1, 1, dtype=torch.long), x_BTHE)[0], x_BTHE)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-8), (torch.float32, 3e-6)])
@pytest.mark.parametrize("far", [0, 1000, 10**6, 10**7])
def test_rope_is_relative(far: int, dtype: torch.dtype, tolerance: float) -> None:
    """Scores depend on the distance only, a million positions out as well."""
    rotary = ROPE.build()
    q_E, k_E = (torch.randn(8, dtype=dtype) for _ in "qk")
    for distance in (0, 1, 7, 300):
        near, out = (turned_score(rotary, q_E, p + distance, k_E, p) for p in (0, far))
        assert_near(out, near, tolerance, f"score over {distance}")


def test_rope_keeps_lengths_and_rows_apart() -> None:
    x_BTHE = torch.randn(3, 5, 2, 8, dtype=torch.float64)
    position_BT = torch.randint(0, 10**6, (3, 5))
    (found,) = ROPE.build().turn(position_BT, x_BTHE)
    assert_near(found.norm(dim=-1), x_BTHE.norm(dim=-1), 1e-13, "length")
    for b in range(3):
        (alone,) = ROPE.build().turn(position_BT[b : b + 1], x_BTHE[b : b + 1])
        assert torch.equal(found[b : b + 1], alone)


@pytest.mark.parametrize("scale_base", [2.0, 512.0])
@pytest.mark.parametrize("start", [0, 10**6])
def test_xpos_is_the_formula(scale_base: float, start: int) -> None:
    """Queries times zeta^(m/s), keys times zeta^(-n/s), between places that need not start at 0."""
    config, T, E = XPos.Config(scale_base=scale_base), 9, 8
    xpos = config.build()
    q_TE, k_TE = (torch.randn(T, E, dtype=torch.float64) for _ in "qk")
    place_T = torch.arange(start, start + T)
    q, k = (xpos.turn(torch.arange(T)[None], x[None, :, None])[0][0, :, 0] for x in (q_TE, k_TE))
    query_scale, key_scale = xpos.scales(E, place_T[3:], place_T)
    found = (q[3:] * query_scale[:, 0]) @ (k * key_scale[:, 0]).T
    expected = scores(config, q_TE, k_TE)[3:]
    assert_near(found.tril(3), expected.tril(3), 1e-12, "scores of earlier keys")


def test_xpos_decays() -> None:
    """What is far counts less: scores of equal vectors shrink with the distance."""
    xpos, place_T = XPos.Config(scale_base=8.0).build(), torch.arange(65)
    query_scale, key_scale = xpos.scales(8, place_T[-1:], place_T)
    products = (query_scale * key_scale)[:, 0]  # 65 keys, seen from the last place
    assert (products[-1] == 1).all()
    assert (products.diff(dim=0) > 0).all()


@pytest.mark.parametrize("scale_base", [4.0, 64.0, 512.0])
@pytest.mark.parametrize("gamma", [0.4, 0.01])
def test_xpos_stays_in_float32_or_refuses(scale_base: float, gamma: float) -> None:
    """At the longest call that is taken, factors are finite and no key is lost; one more position is refused."""
    xpos = XPos.Config(scale_base=scale_base, gamma=gamma).build()
    T = xpos.longest_call
    place_T = torch.arange(T)
    query_scale, key_scale = (x.float() for x in xpos.scales(8, place_T, place_T))
    assert query_scale.isfinite().all()
    assert key_scale.isfinite().all()
    assert_near(query_scale * key_scale, torch.ones_like(key_scale), 1e-5, "a position and itself")
    with pytest.raises(ContextError, match=f"= {T + 1}: xPos takes at most {T}"):
        xpos.scales(8, torch.arange(T + 1), torch.arange(T + 1))


def test_xpos_takes_long_calls_at_the_papers_scale() -> None:
    assert XPos.Config().build().longest_call >= 16_384


def test_xpos_forgets_what_is_very_far() -> None:
    """A key a million positions back has the factor 0, not NaN."""
    xpos = XPos.Config().build()
    query_scale, key_scale = xpos.scales(8, torch.tensor([10**6]), torch.arange(0, 10**6 + 1, 10**5))
    assert (query_scale == 1).all()
    assert (key_scale[0, 0, [0, 4]] == 0).all()
    assert key_scale.isfinite().all()


@pytest.mark.parametrize(
    ("config", "named"),
    [
        (Rotary.Config(base=1.0), r"rotary.base = 1.0"),
        (XPos.Config(base=0.0), r"rotary.base = 0.0"),
        (XPos.Config(scale_base=0.0), r"xpos.scale_base = 0.0"),
        (XPos.Config(gamma=-0.4), r"xpos.gamma = -0.4"),
    ],
)
def test_wrong_numbers_are_named(config: Rotary.Config | XPos.Config, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        config.build()
