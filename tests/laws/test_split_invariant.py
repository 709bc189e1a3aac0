"""Law 2 over the catalogue, and the mutants that it must catch."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from everlong.core.state import load_state, repeat_rows, save_state, select_rows
from everlong.testing.compare import assert_near
from everlong.testing.example import make, width
from everlong.testing.split_invariant import check_carried, check_split_invariant
from everlong.testing.stream import Stream, random_layout
from tests.laws.catalogue import CATALOGUE, combination
from tests.laws.mutants.base import Mutant
from tests.laws.mutants.split_invariant import NOT_SPLIT_INVARIANT, NOT_SPLIT_INVARIANT_RAGGED
from tests.laws.strategies import cuts, seeds

T = 13
SINGLES = list(range(1, T))


@pytest.mark.parametrize("name", CATALOGUE)
@pytest.mark.parametrize("ragged", [False, True], ids=["plain", "ragged"])
def test_single_tokens(name: str, ragged: bool) -> None:
    config = CATALOGUE[name]
    stream = Stream.random(2, T, width(config))
    check_split_invariant(make(config), random_layout(stream, seed=1) if ragged else stream, SINGLES)


@pytest.mark.parametrize("name", CATALOGUE)
@settings(max_examples=4)
@given(cuts=cuts(T), seed=seeds, ragged=st.booleans())
def test_any_cuts(name: str, cuts: list[int], seed: int, ragged: bool) -> None:
    config = CATALOGUE[name]
    stream = Stream.random(3, T, width(config), seed)
    check_split_invariant(make(config), random_layout(stream, seed) if ragged else stream, cuts)


@given(cuts=cuts(9), seed=seeds, ragged=st.booleans())
def test_combinations(cuts: list[int], seed: int, ragged: bool) -> None:
    config = combination(seed)
    stream = Stream.random(2, 9, width(config), seed)
    check_split_invariant(make(config), random_layout(stream, seed) if ragged else stream, cuts)


@pytest.mark.parametrize("name", CATALOGUE)
@pytest.mark.parametrize("ragged", [False, True], ids=["plain", "ragged"])
def test_saved_and_loaded(name: str, ragged: bool, tmp_path) -> None:
    def through_a_file(state):
        save_state(state, tmp_path / "state.safetensors")
        return load_state(tmp_path / "state.safetensors")

    config = CATALOGUE[name]
    stream = Stream.random(2, T, width(config))
    check_carried(make(config), random_layout(stream, seed=2) if ragged else stream, [3, 4, 9], through_a_file)


@pytest.mark.parametrize("name", CATALOGUE)
@pytest.mark.parametrize("ragged", [False, True], ids=["plain", "ragged"])
def test_forked_and_reordered(name: str, ragged: bool) -> None:
    """Two continuations of every row, fed in another order, are what each would be alone."""
    config = CATALOGUE[name]
    part, middle = make(config), 7
    streams = [Stream.random(2, T, width(config), seed) for seed in (0, 1)]
    streams = [random_layout(s, seed) if ragged else s for seed, s in enumerate(streams)]
    start, other = streams
    shared = {k: _join(v, getattr(other, k), middle) for k, v in vars(start).items()}
    streams = [start, replace(other, **shared)]
    with torch.no_grad():
        alone = [part(s.x_BTD, s.span)[0] for s in streams]
        (x_BCD, span), _ = start.pieces([middle])
        state = repeat_rows(part(x_BCD, span)[1], 2)  # rows 0, 0, 1, 1
        order = [3, 0, 2, 1]  # row 1 of the second, row 0 of the first, row 1 of the first, row 0 of the second
        forked = _interleave(streams).rows(order)
        _, (x_BCD, span) = forked.pieces([middle])
        y_BCD, _ = part(x_BCD, span, select_rows(state, torch.tensor(order)))
    expected = torch.stack(alone, dim=1).flatten(0, 1)[order][:, middle:]
    real = forked.mask_BT[:, middle:]
    assert_near(y_BCD[real], expected[real], 1e-10, "forked rows")


def _join(first, second, middle: int):
    return None if first is None else torch.cat([first[:, :middle], second[:, middle:]], dim=1)


def _interleave(streams: list[Stream]) -> Stream:
    """Row b of every stream, then row b + 1 of every stream."""
    columns = {k: [getattr(s, k) for s in streams] for k, v in vars(streams[0]).items() if v is not None}
    return Stream(**{k: torch.stack(v, dim=1).flatten(0, 1) for k, v in columns.items()})


@pytest.mark.parametrize("mutant", NOT_SPLIT_INVARIANT, ids=repr)
def test_catches(mutant: Mutant) -> None:
    with pytest.raises(AssertionError, match=mutant.message):
        check_split_invariant(mutant.make(), Stream.random(2, T, mutant.width), [4, 5, 11])


@pytest.mark.parametrize("mutant", NOT_SPLIT_INVARIANT_RAGGED, ids=repr)
def test_catches_ragged(mutant: Mutant) -> None:
    plain = Stream.random(2, T, mutant.width)
    check_split_invariant(mutant.make(), plain, [4, 5, 11])
    with pytest.raises(AssertionError, match=mutant.message):
        check_split_invariant(mutant.make(), random_layout(plain, seed=1), [4, 5, 11])
