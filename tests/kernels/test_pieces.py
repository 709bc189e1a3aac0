"""Views, pieces and visibility against loops over positions."""

from __future__ import annotations

import random

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from everlong.kernels.pieces import Piece, View, Visibility, decode, encode, halve_squares, visible_pairs
from tests.kernels.random_pieces import problem, random_pieces
from tests.oracles.pieces import counts, places

seeds = st.integers(0, 2**16)


@settings(max_examples=30)
@given(seed=seeds)
def test_view_is_its_places(seed: int) -> None:
    for piece in random_pieces(random.Random(seed), 2, 11, 11, 3, 3):
        x_BTHD = torch.arange(2 * 11 * 3 * 4).view(2, 11, 3, 4)
        head, row = torch.tensor(places(piece.query, 3)).unbind(-1)
        expected = x_BTHD.flatten(0, 1)[row, head]
        assert torch.equal(piece.query.of(x_BTHD), expected)
        assert torch.equal(piece.query.of(x_BTHD[..., 0].contiguous()), expected[..., 0])


def test_view_writes_through() -> None:
    x_BTHD = torch.zeros(1, 6, 1, 2)
    View(1, 2, 3, 2).of(x_BTHD).fill_(1)
    assert x_BTHD[0, :, 0, 0].tolist() == [0, 1, 1, 0, 1, 1]


@settings(max_examples=50)
@given(L=st.integers(1, 6), M=st.integers(1, 6), low=st.integers(-7, 7), size=st.integers(-1, 7))
def test_bands(L: int, M: int, low: int, size: int) -> None:
    piece = Piece(View(0, 1, L, L), View(0, 1, M, M), low, low + size)
    expected = torch.tensor([[low <= j - i <= low + size for j in range(M)] for i in range(L)])
    assert torch.equal(piece.band(torch.device("cpu")), expected)
    assert piece.banded == (not expected.all())
    visible = visible_pairs(piece, None, torch.device("cpu"))
    assert (visible is None) == bool(expected.all())
    assert piece.causal_square <= (L == M and torch.equal(expected, torch.ones(L, M).tril().bool()))


def test_causal_squares_are_found() -> None:
    square = Piece(View(3, 2, 5, 5), View(0, 2, 5, 5), high=0)
    assert square.causal_square
    assert not square._replace(high=1).causal_square
    assert not square._replace(low=-2).causal_square
    assert not square._replace(key=View(0, 2, 5, 4)).causal_square


@given(
    count=st.integers(1, 3),
    T=st.integers(1, 17),
    smallest=st.integers(1, 4),
    gap=st.integers(0, 1),
    step=st.integers(1, 3),
    skew=st.integers(0, 1),
)
def test_halved_squares_hold_the_same_pairs(count: int, T: int, smallest: int, gap: int, step: int, skew: int) -> None:
    view = View(2, count, step * T + gap, T, step, 1, min(step, 2), 1, skew)
    whole = (Piece(view, view, high=0), Piece(View(0, 1, 1, 1), View(0, 1, 1, 1)))
    halved, size = halve_squares(whole, smallest), count * (step * T + gap) + 3
    assert torch.equal(counts(halved, 1, size, size, 3, 3), counts(whole, 1, size, size, 3, 3))
    assert halve_squares(whole, T) == whole
    assert (len(halved) > len(whole)) == (smallest <= T // 2)
    squares = [piece for piece in halved if piece.causal_square]
    assert all(piece.query.length // 2 < smallest for piece in squares)


def test_even_halves_are_one_piece() -> None:
    """Where one step leads from half to half, and so for all sequences if they follow each other without a gap."""
    for step in (1, 3):
        for view in (View(5, 1, 999, 64, step), View(5, 4, 64 * step, 64, step)):
            assert len(halve_squares((Piece(view, view, high=0),), 16)) == 3


@given(seed=seeds)
def test_encoding(seed: int) -> None:
    pieces = random_pieces(random.Random(seed), 2, 7, 9, 4, 2)
    assert decode(encode(pieces)) == pieces


@given(seed=seeds)
def test_visibility_tensors(seed: int) -> None:
    """They rebuild it, also where the marked keys are left out."""
    visibility = problem(seed, by_data=True).visibility
    assert visibility is not None
    again = Visibility(*visibility.tensors())
    assert vars(again).keys() == vars(visibility).keys()
    assert all(again.__dict__[name] is value for name, value in vars(visibility).items())


@settings(max_examples=30)
@given(seed=seeds)
def test_visibility_of_a_piece(seed: int) -> None:
    case = problem(seed, by_data=True)
    (B, T), S = case.q_BTHD.shape[:2], case.k_BSGD.shape[1]
    everything = (Piece(View(0, 1, 0, B * T), View(0, 1, 0, B * S)),)
    seen_QK = counts(everything, B, T, S, visibility=case.visibility)[0] > 0
    for piece in case.pieces:
        assert case.visibility is not None
        queries, keys = (torch.tensor(places(view.places))[..., 1] for view in (piece.query, piece.key))
        expected = seen_QK[queries[..., None], keys[..., None, :]]
        assert torch.equal(case.visibility.of(piece), expected)
