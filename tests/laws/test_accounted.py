"""Law 6 over the catalogue, hand arithmetic for every baseline, and the mutants that the law must catch."""

from __future__ import annotations

import pytest
from hypothesis import given

import everlong
from everlong.core.accounting import parameter_count
from everlong.testing.accounted import check_accounted, counted_flops
from everlong.testing.example import make, width
from everlong.testing.stream import Stream
from tests.laws.catalogue import CATALOGUE, combination, nominal
from tests.laws.mutants.accounted import NOT_ACCOUNTED
from tests.laws.mutants.base import Mutant
from tests.laws.strategies import seeds


@pytest.mark.parametrize("name", CATALOGUE)
def test_catalogue(name: str) -> None:
    check_accounted(nominal(make(CATALOGUE[name])), width(CATALOGUE[name]))


@given(seed=seeds)
def test_combinations(seed: int) -> None:
    config = combination(seed)
    check_accounted(nominal(make(config)), config.width, T=7)


def mixing_by_hand(family: str, T: int, D: int, E: int, **numbers: int) -> int:
    """FLOPs of one layer's mixing, without projections, added up position by position."""
    total = 0
    for t in range(T):
        if family == "linear":
            total += 2 * D * E + 2 * D * E  # every head: k v^T, then q S
            continue
        seen = {
            "transformer": t + 1,
            "window": min(t + 1, numbers.get("window", 0)),
            "sparse": t % numbers.get("block", 1) + 1 + t // numbers.get("block", 1) * numbers.get("summary", 0),
        }[family]
        total += 2 * D * seen + 2 * D * seen  # every head: q k, then p v
    return total


BY_HAND = {"transformer": {}, "window": {"window": 5}, "sparse": {"block": 4, "summary": 3}, "linear": {}}


@pytest.mark.parametrize("family", BY_HAND)
def test_by_hand(family: str) -> None:
    L, D, H, F, V, T = 3, 12, 2, 20, 17, 23
    numbers = BY_HAND[family]
    model = everlong.build(f"{family}:nano", layers=L, width=D, heads=H, hidden=F, vocabulary=V, **numbers)
    projections, feed_forward, head = 4 * D * D, 3 * D * F, D * V
    mixing = mixing_by_hand(family, T, D, D // H, **numbers)
    assert model.flops(T) == L * (mixing + 2 * T * (projections + feed_forward)) + 2 * T * head
    norms = L * 2 * D + D
    assert parameter_count(model) == L * (projections + feed_forward) + norms + 2 * head


def test_state_by_hand() -> None:
    """Bytes in float32: two cached vectors a position and layer, and the position and document of the stream."""
    shape = {"layers": 3, "width": 12, "heads": 2}
    layer, stream = 2 * 12 * 4, 16
    assert everlong.build("transformer:nano", **shape).state_bytes(23) == 3 * layer * 23 + stream
    assert everlong.build("transformer:nano", kv_heads=1, **shape).state_bytes(23) == 3 * layer * 23 // 2 + stream
    assert everlong.build("window:nano", window=5, **shape).state_bytes(23) == 3 * layer * 4 + stream
    sparse = everlong.build("sparse:nano", block=4, summary=3, **shape)
    assert sparse.state_bytes(23) == 3 * layer * (5 * 3 + 3) + stream
    assert everlong.build("linear:nano", **shape).state_bytes(23) == 3 * 2 * (6 * 6 + 6) * 4 + stream


def test_dense_attention_in_parallel() -> None:
    """The plain form of a whole call also multiplies the masked half, which is not declared."""
    config, T = CATALOGUE["attention, grouped, RoPE"], 19
    part = make(config)
    hidden_pairs = T * (T - 1) // 2
    counted = counted_flops(part, Stream.random(1, T, width(config)), [])
    assert counted - 4 * width(config) * hidden_pairs == part.flops(T)


@pytest.mark.parametrize("mutant", NOT_ACCOUNTED, ids=repr)
def test_catches(mutant: Mutant) -> None:
    with pytest.raises(AssertionError, match=mutant.message):
        check_accounted(mutant.make(), mutant.width)
