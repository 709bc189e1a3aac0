"""Mamba: states and sums in float32 or better, initial numbers of the papers, documents of packed rows, errors."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from everlong import Config, Span
from everlong.core.accounting import parameter_hints
from everlong.core.errors import ConfigError, ContextError
from everlong.core.state import state_tensors
from everlong.kernels import delta_rule, selective_scan, ssd_blocks
from everlong.model.parallel import Parallel
from everlong.sequence.delta import Decay, DeltaNet
from everlong.sequence.mamba import Mamba2
from everlong.sequence.mamba1 import Mamba1
from everlong.sequence.mamba_pieces import DT_MAX, DT_MIN
from everlong.testing.split_invariant import check_split_invariant
from everlong.testing.stream import Stream, random_layout

SMALL: dict[str, Any] = {"width": 8, "heads": 2, "head_size": 4, "state_size": 3}
DELTA: dict[str, Any] = {"width": 8, "heads": 2, "value_heads": 2, "key_size": 4, "value_size": 3}
CONFIGS: dict[str, Config] = {
    "mamba-2": Mamba2.Config(**SMALL),
    "mamba-1": Mamba1.Config(width=8, inner=6, rank=2, state_size=3),
    "gated delta": DeltaNet.Config(**DELTA, decay=Decay.Config()),
    "delta": DeltaNet.Config(**DELTA, decay=None),
}
CHUNKS = {ssd_blocks: ("CHUNK", "PAIRWISE", "BLOCK"), delta_rule: ("CHUNK",), selective_scan: ("CHUNK",)}


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("chunk", [1, 3, 64])
@given(seed=st.integers(0, 2**16), ragged=st.booleans())
def test_any_chunk(name: str, chunk: int, seed: int, ragged: bool) -> None:
    part, stream = CONFIGS[name].build().double(), Stream.random(2, 11, 8, seed)
    stream = random_layout(stream, seed) if ragged else stream
    with pytest.MonkeyPatch.context() as patch:
        for module, constants in CHUNKS.items():
            for constant in constants:
                patch.setattr(module, constant, chunk)
        check_split_invariant(part, stream, [1, 2, 7])


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_sums_are_float32_or_better(name: str, dtype: torch.dtype) -> None:
    span = Span.plain_from(torch.zeros(1, 3, dtype=torch.long))
    y_BTD, state = CONFIGS[name].build().to(dtype)(torch.randn(1, 3, 8, dtype=dtype), span)
    past, sums = state_tensors(state)
    assert y_BTD.dtype == past.dtype == dtype
    assert sums.dtype == torch.promote_types(dtype, torch.float32)


@pytest.mark.parametrize("name", CONFIGS)
def test_autocast_does_not_touch_the_sums(name: str) -> None:
    part, span = CONFIGS[name].build(), Span.plain_from(torch.zeros(1, 50, dtype=torch.long))
    with torch.autocast("cpu", torch.bfloat16):
        y_BTD, state = part(torch.randn(1, 50, 8), span)
    assert y_BTD.dtype == torch.bfloat16
    assert state_tensors(state)[1].dtype == torch.float32


@pytest.mark.parametrize("name", CONFIGS)
def test_rates_do_not_decay(name: str) -> None:
    hints = {path.rpartition(".")[2]: hint for path, _, hint in parameter_hints(CONFIGS[name].build())}
    for parameter in {"A_log", "dt_bias", "D"} & hints.keys():
        assert not hints[parameter].decay
        assert not hints[parameter].matrix


def test_initial_numbers() -> None:
    """Rates between 1 and 16, and step sizes between 1/1000 and 1/10, before the input speaks."""
    part = Mamba2.Config(width=8, heads=512, head_size=1, state_size=1).build()
    assert (-part.A_log.exp()).aminmax().min < -15
    assert part.A_log.exp().min() >= 1
    assert part.A_log.exp().max() <= 16
    steps = F.softplus(part.dt_bias)
    assert DT_MIN * 0.99 <= steps.min() < 2 * DT_MIN
    assert DT_MAX / 2 < steps.max() <= DT_MAX * 1.01
    first = Mamba1.Config(width=8, inner=6, rank=2, state_size=5).build()
    torch.testing.assert_close(first.A_log.exp(), torch.arange(1.0, 6).repeat(6, 1))


def test_limits_hold() -> None:
    """With equal bounds apart by little, every step is as large, whatever the input."""
    part = Mamba2.Config(**SMALL, dt_limits=(0.5, 0.5000001)).build().double()
    span = Span.plain_from(torch.zeros(1, 1, dtype=torch.long))
    x_BTD = torch.randn(1, 1, 8, dtype=torch.float64)
    _, one = part(x_BTD, span)
    with torch.no_grad():
        part.dt_bias += 3
    _, other = part(x_BTD, span)
    torch.testing.assert_close(one.s_BGNJ, other.s_BGNJ, rtol=1e-6, atol=0)


WRONG: dict[str, tuple[Config, str]] = {
    "groups": (Mamba2.Config(**SMALL, groups=3), "mamba2.groups = 3: must divide mamba2.heads = 2"),
    "heads": (Mamba2.Config(**{**SMALL, "heads": 0}), "mamba2.heads = 0: must be at least 1"),
    "state": (Mamba2.Config(**{**SMALL, "state_size": 0}), "mamba2.state_size = 0: must be at least 1"),
    "taps": (Mamba2.Config(**SMALL, taps=0), "convolution taps = 0: must be at least 1"),
    "limits": (Mamba2.Config(**SMALL, dt_limits=(0.5, 0.1)), r"mamba2.dt_limits = \(0.5, 0.1\): must be two numbers"),
    "negative limit": (Mamba2.Config(**SMALL, dt_limits=(-1.0, 0.1)), "mamba2.dt_limits"),
    "rank": (Mamba1.Config(width=8, inner=6, rank=0), "mamba1.rank = 0: must be at least 1"),
    "delta heads": (
        DeltaNet.Config(**{**DELTA, "value_heads": 3}, decay=None),
        "delta_net.heads = 2: must divide delta_net.value_heads = 3",
    ),
    "beta": (DeltaNet.Config(**DELTA, decay=None, beta_scale=2.5), r"delta_net.beta_scale = 2.5: must be in \(0, 2\]"),
    "no parts": (Parallel.Config(width=8, parts=()), r"parallel.parts = \(\): must hold at least one part"),
    "other width": (
        Parallel.Config(width=16, parts=(Mamba2.Config(**SMALL),)),
        r"parallel.parts\[0\].width = 8: must be the width of the whole, 16",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_numbers(case: str) -> None:
    config, named = WRONG[case]
    with pytest.raises(ConfigError, match=named):
        config.build()


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("mamba-2", Mamba2.Config(**{**SMALL, "state_size": 5})),
        ("mamba-1", Mamba1.Config(width=8, inner=6, rank=2, state_size=5)),
        ("gated delta", DeltaNet.Config(**{**DELTA, "heads": 1}, decay=None)),
        ("mamba-2", Mamba2.Config(**SMALL, taps=3)),
    ],
)
def test_state_of_another_configuration(name: str, other: Config) -> None:
    span, x_BTD = Span.plain_from(torch.zeros(1, 3, dtype=torch.long)), torch.randn(1, 3, 8)
    _, state = other.build()(x_BTD, span)
    with pytest.raises(ContextError, match="pass what this very part returned"):
        CONFIGS[name].build()(x_BTD, span, state)


def test_state_of_another_number_of_parts() -> None:
    span, x_BTD = Span.plain_from(torch.zeros(1, 3, dtype=torch.long)), torch.randn(1, 3, 8)
    part = Parallel.Config(width=8, parts=(Mamba2.Config(**SMALL),) * 2).build()
    with pytest.raises(ContextError, match="states of 1 parts"):
        part(x_BTD, span, (None,))
