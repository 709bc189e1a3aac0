"""Rows of tables, against indexing and against sums that are written out."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from everlong.kernels.rows import read_rows, sum_by_row

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


@pytest.mark.parametrize("dtype", DTYPES)
@given(rows=st.integers(1, 40), width=st.integers(1, 40), reads=st.integers(0, 60), seed=st.integers(0, 99))
def test_reads_rows(dtype, rows, width, reads, seed):
    generator = torch.Generator().manual_seed(seed)
    table_RD = torch.randn(rows, width, generator=generator).to(dtype)
    row_N = torch.randint(rows, (reads,), generator=generator)
    assert torch.equal(read_rows(table_RD, row_N), table_RD[row_N])


@pytest.mark.parametrize("value", [float("inf"), float("nan"), 1e-40])
def test_reads_any_number(value):
    table_RD = torch.full((3, 8), value)
    torch.testing.assert_close(read_rows(table_RD, torch.tensor([1])), table_RD[:1], equal_nan=True, rtol=0, atol=0)


@pytest.mark.parametrize("row", [-1, 3])
def test_no_row_beyond_the_table(row):
    with pytest.raises((RuntimeError, IndexError)):
        read_rows(torch.zeros(3, 8), torch.tensor([row]))


@pytest.mark.parametrize("dtype", DTYPES[:2])
@given(rows=st.integers(1, 9), width=st.integers(1, 20), reads=st.integers(0, 60), seed=st.integers(0, 99))
def test_sums_by_row(dtype, rows, width, reads, seed):
    """In the order in which they come: to the last bit."""
    generator = torch.Generator().manual_seed(seed)
    row_N = torch.randint(rows, (reads,), generator=generator)
    g_ND = torch.randn(reads, width, generator=generator, dtype=dtype)
    sums: dict[int, torch.Tensor] = {}
    for row, g_D in zip(row_N.tolist(), g_ND, strict=True):
        sums[row] = sums.get(row, torch.zeros(width, dtype=dtype)) + g_D
    row_U, g_UD = sum_by_row(row_N, g_ND)
    assert row_U.tolist() == sorted(sums)
    for row, g_D in zip(row_U.tolist(), g_UD, strict=True):
        assert torch.equal(g_D, sums[row])
