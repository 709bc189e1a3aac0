"""Law 4 over the catalogue, and the mutants that it must catch."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given

from everlong import Config
from everlong.sequence.attention import WindowAttention
from everlong.sequence.linear_attention import LinearAttention
from everlong.testing.bounded import check_bounded, check_bounded_by_document
from everlong.testing.example import make, width
from everlong.testing.stream import Stream, random_layout
from everlong.width.swiglu import SwiGLU
from tests.laws.catalogue import CATALOGUE, combination, nominal, shrunken
from tests.laws.mutants.base import Mutant
from tests.laws.mutants.bounded import KEEPS_OLD_DOCUMENTS, NOT_BOUNDED
from tests.laws.strategies import seeds


@pytest.mark.parametrize("name", CATALOGUE)
def test_catalogue(name: str) -> None:
    check_bounded(nominal(make(CATALOGUE[name])), width(CATALOGUE[name]))


@pytest.mark.parametrize("name", CATALOGUE)
def test_in_bfloat16(name: str) -> None:
    """Some states are wider than what they are made of."""
    part = nominal(make(CATALOGUE[name])).bfloat16()
    check_bounded(part, width(CATALOGUE[name]), lengths=(1, 9), dtype=torch.bfloat16)


@given(seed=seeds)
def test_combinations(seed: int) -> None:
    config = combination(seed)
    check_bounded(nominal(make(config)), config.width, lengths=(1, 4, 9))


@pytest.mark.parametrize("name", CATALOGUE)
@pytest.mark.parametrize("cuts", [[], list(range(1, 15))], ids=["whole", "single tokens"])
def test_ragged(name: str, cuts: list[int]) -> None:
    part = make(CATALOGUE[name])
    for seed in range(2):
        stream = random_layout(Stream.random(1, 15, width(CATALOGUE[name]), seed), seed)
        check_bounded_by_document(part, stream, cuts)


CONSTANT: dict[str, tuple[Config, int]] = {
    "window": (WindowAttention.Config(width=8, heads=2, kv_heads=1, position=None, window=5), 4),
    "linear": (LinearAttention.Config(width=8, heads=2), 1),
    "swiglu": (SwiGLU.Config(width=8, hidden=12), 1),
    "preset window": (shrunken("window"), 4),
    "preset linear": (shrunken("linear"), 1),
}
"""What claims a state that stops growing, and the length at which it does; the law above measures it."""


@pytest.mark.parametrize("name", CONSTANT)
def test_constant(name: str) -> None:
    config, filled = CONSTANT[name]
    part = make(config)
    assert {part.state_bytes(T) for T in (filled, filled + 1, 21, 10**4, 10**9)} == {part.state_bytes(filled)}


@pytest.mark.parametrize("mutant", NOT_BOUNDED, ids=repr)
def test_catches(mutant: Mutant) -> None:
    with pytest.raises(AssertionError, match=mutant.message):
        check_bounded(mutant.make(), mutant.width)


def test_catches_ragged() -> None:
    stream = random_layout(Stream.random(1, 15, KEEPS_OLD_DOCUMENTS.width), seed=0)
    with pytest.raises(AssertionError, match="bytes of vectors"):
        check_bounded_by_document(KEEPS_OLD_DOCUMENTS.make(), stream, [])
