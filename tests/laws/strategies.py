"""What hypothesis draws for the laws."""

from __future__ import annotations

from hypothesis import strategies as st


def cuts(T: int) -> st.SearchStrategy[list[int]]:
    """Positions before which to cut a stream of T."""
    return st.lists(st.integers(1, T - 1), max_size=T - 1, unique=True)


seeds = st.integers(0, 2**16)
