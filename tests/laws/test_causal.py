"""Law 1 over the catalogue, and the mutants that it must catch."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everlong.testing.causal import check_causal
from everlong.testing.example import make, width
from everlong.testing.stream import Stream, random_layout
from tests.laws.catalogue import CATALOGUE, combination
from tests.laws.mutants.base import Mutant
from tests.laws.mutants.causal import NOT_CAUSAL
from tests.laws.strategies import seeds


@pytest.mark.parametrize("name", CATALOGUE)
@pytest.mark.parametrize("ragged", [False, True], ids=["plain", "ragged"])
def test_catalogue(name: str, ragged: bool) -> None:
    config = CATALOGUE[name]
    stream = Stream.random(2, 10, width(config))
    check_causal(make(config), random_layout(stream, seed=1) if ragged else stream)


@given(seed=seeds, ragged=st.booleans())
def test_combinations(seed: int, ragged: bool) -> None:
    config = combination(seed)
    stream = Stream.random(2, 9, width(config), seed)
    check_causal(make(config), random_layout(stream, seed) if ragged else stream)


@pytest.mark.parametrize("mutant", NOT_CAUSAL, ids=repr)
def test_catches(mutant: Mutant) -> None:
    with pytest.raises(AssertionError, match=mutant.message):
        check_causal(mutant.make(), Stream.random(2, 12, mutant.width))
