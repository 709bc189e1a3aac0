"""Law 5 over the catalogue, and the mutants that it must catch."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from everlong import Config
from everlong.testing.example import make, width
from everlong.testing.placement_invariant import Oracle, check_dtype, check_placement_invariant, check_threads
from everlong.testing.stream import Stream, random_layout
from tests.laws.catalogue import CATALOGUE, combination
from tests.laws.mutants.base import Mutant, toy
from tests.laws.mutants.placement_invariant import NOT_PLACEMENT_INVARIANT, CountsThreads
from tests.laws.strategies import seeds
from tests.oracles import parts


def oracle_of(config: Config) -> Oracle:
    """Every document of a stream, one after the other, through the oracle of a configuration."""

    def answer(weights, stream: Stream) -> torch.Tensor:
        found = [
            (b, index_R, parts.run(config, weights, stream.x_BTD[b, index_R], stream.ids_BT[b, index_R]))
            for b, index_R in stream.documents()
        ]
        y_BTD = torch.zeros(*stream.shape, found[0][2].shape[-1], dtype=torch.float64)
        for b, index_R, y_RD in found:
            y_BTD = y_BTD.index_put((torch.tensor(b), index_R), y_RD)
        return y_BTD

    return answer


@pytest.mark.parametrize("name", CATALOGUE)
@pytest.mark.parametrize("ragged", [False, True], ids=["plain", "ragged"])
def test_catalogue(name: str, ragged: bool) -> None:
    config = CATALOGUE[name]
    stream = Stream.random(2, 11, width(config))
    check_placement_invariant(make(config), random_layout(stream, seed=1) if ragged else stream, oracle_of(config))


@given(seed=seeds, ragged=st.booleans())
def test_combinations(seed: int, ragged: bool) -> None:
    config = combination(seed)
    stream = Stream.random(2, 9, width(config), seed)
    check_placement_invariant(make(config), random_layout(stream, seed) if ragged else stream, oracle_of(config))


def test_long_sums_stay_exact() -> None:
    """A bfloat16 model sums its past in float32, however long it is."""
    config = CATALOGUE["linear attention"]
    check_dtype(make(config), Stream.random(1, 400, width(config)), oracle_of(config), torch.bfloat16, "cpu")


@pytest.mark.parametrize("mutant", NOT_PLACEMENT_INVARIANT, ids=repr)
def test_catches(mutant: Mutant) -> None:
    config = mutant.config(**mutant.numbers)
    with pytest.raises(AssertionError, match=mutant.message):
        check_placement_invariant(mutant.make(), Stream.random(1, 400, mutant.width), oracle_of(config))


def test_catches_threads() -> None:
    with pytest.raises(AssertionError, match="two threads against one"):
        check_threads(toy(CountsThreads, "").make(), Stream.random(1, 3, 8))
