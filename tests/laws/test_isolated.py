"""Law 3 over the catalogue, and the mutants that it must catch."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from torch import Tensor

from everlong.testing.example import make, width
from everlong.testing.isolated import check_isolated
from everlong.testing.stream import Stream, random_layout
from tests.laws.catalogue import CATALOGUE, combination
from tests.laws.mutants.base import Mutant
from tests.laws.mutants.isolated import NOT_ISOLATED
from tests.laws.strategies import seeds

X = -1  # padding
LAYOUTS = {
    "packed": [[0, 0, 0, 0, 0, 3, 4, 4, 4, 4, 4, 4], [7, 7, 1, 1, 1, 1, 1, 1, 1, 7, 7, 7]],
    "padded left": [[X, X, X, X, X, X, X, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]],
    "padded right": [[0, 0, 0, 0, 0, 0, 0, 0, 0, X, X, X], [0, 0, X, X, X, X, X, X, X, X, X, X]],
    "padded between": [[X, 0, X, X, 0, 0, X, 0, 0, X, 0, X], [0, X, 0, X, 0, X, 0, X, 0, X, 0, X]],
    "packed and padded": [[0, 0, X, 1, 1, X, X, 1, 1, 2, X, 2], [X, X, X, X, X, X, X, X, X, X, X, X]],
}


def laid_out(stream: Stream, layout: list[list[int]]) -> Stream:
    document_BT = torch.tensor(layout)
    real_BT: Tensor | None = document_BT != X
    return replace(stream, document_BT=document_BT, real_BT=None if real_BT.all() else real_BT)


@pytest.mark.parametrize("name", CATALOGUE)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_catalogue(name: str, layout: str) -> None:
    config = CATALOGUE[name]
    check_isolated(make(config), laid_out(Stream.random(2, 12, width(config)), LAYOUTS[layout]))


@given(seed=seeds)
def test_combinations(seed: int) -> None:
    config = combination(seed)
    check_isolated(make(config), random_layout(Stream.random(3, 9, width(config), seed), seed))


@pytest.mark.parametrize("mutant", NOT_ISOLATED, ids=repr)
def test_catches(mutant: Mutant) -> None:
    stream = laid_out(Stream.random(2, 12, mutant.width), LAYOUTS["packed and padded"])
    with pytest.raises(AssertionError, match=mutant.message):
        check_isolated(mutant.make(), stream)
