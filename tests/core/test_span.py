"""Spans against a loop over positions."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from everlong import Span


@st.composite
def rows(draw: st.DrawFn) -> tuple[list[list[int]], list[list[bool]], list[int], list[int]]:
    """Documents, which positions are real, and where each row stands before."""
    B, T = draw(st.integers(1, 3)), draw(st.integers(1, 9))

    def table(values: st.SearchStrategy) -> list[list]:
        return draw(st.lists(st.lists(values, min_size=T, max_size=T), min_size=B, max_size=B))

    def column(low: int, high: int) -> list[int]:
        return draw(st.lists(st.integers(low, high), min_size=B, max_size=B))

    return table(st.integers(0, 2)), table(st.booleans()), column(0, 5), column(-1, 2)


@settings(max_examples=200)
@given(rows=rows(), all_real=st.booleans())
def test_ragged(rows, all_real: bool) -> None:
    documents, reals, position, before = rows
    ids_BT = torch.zeros(len(documents), len(documents[0]), dtype=torch.long)
    if all_real:
        reals = [[True] * len(row) for row in documents]
    real_BT = None if all_real else torch.tensor(reals)
    span = Span.ragged_from(ids_BT, torch.tensor(documents), real_BT, torch.tensor(position), torch.tensor(before))
    for b, (at, current) in enumerate(zip(position, before, strict=True)):
        for t, (document, real) in enumerate(zip(documents[b], reals[b], strict=True)):
            start = real and document != current
            if start:
                at, current = 0, document
            assert span.start_BT is not None
            assert span.start_BT[b, t] == start, (b, t)
            assert span.position_BT[b, t] == at, (b, t)
            at += real
    assert not span.plain


def test_plain() -> None:
    ids_BT = torch.zeros(2, 3, dtype=torch.long)
    span = Span.plain_from(ids_BT)
    assert span.plain
    assert span.position_BT.tolist() == [[0, 1, 2]]
    later = Span.plain_from(ids_BT, torch.tensor([4, 10**9]))
    assert later.plain
    assert later.position_BT.tolist() == [[4, 5, 6], [10**9, 10**9 + 1, 10**9 + 2]]


@pytest.mark.parametrize("field", ["document_BT", "real_BT"])
def test_plain_has_neither_documents_nor_padding(field: str) -> None:
    ids_BT = torch.zeros(1, 2, dtype=torch.long)
    value: Any = ids_BT if field == "document_BT" else ids_BT.bool()
    assert not dataclasses.replace(Span.plain_from(ids_BT), **{field: value}).plain


def test_reports_add_up() -> None:
    span = Span.plain_from(torch.zeros(1, 1, dtype=torch.long))
    span.report("balance", torch.tensor(1.0))
    span.report("balance", torch.tensor(2.5))
    span.report("ratio", torch.tensor(4.0))
    assert span.auxiliary == {"balance": 3.5, "ratio": 4.0}
    assert Span.plain_from(span.ids_BT).auxiliary == {}
