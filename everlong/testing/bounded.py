"""Law 4, bounded: the state is as large as the part declares, however the stream was cut."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from everlong.core.state import state_bytes, state_tensors
from everlong.testing.stream import Stream

LENGTHS = (1, 2, 4, 5, 8, 15)


def check_bounded(
    part: Any, width: int, lengths: Sequence[int] = LENGTHS, rows: int = 3, dtype: torch.dtype = torch.float64
) -> None:
    """Raises AssertionError if the storage that a state keeps alive differs from `part.state_bytes` a row."""
    for T in lengths:
        stream = Stream.random(rows, T, width, T, dtype)
        for cuts in ([], [T // 2], list(range(1, T))):
            state = final_state(part, stream, cuts)
            measured, declared = state_bytes(state), rows * part.state_bytes(T)
            what = f"not bounded: after {T} positions, cut before {cuts}, the state holds"
            assert measured == declared, f"{what} {measured} bytes, declared are {declared}"
            batches = {tensor.shape[0] for tensor in state_tensors(state)}
            assert batches <= {rows}, f"{what} tensors of {batches} rows, not {rows}"


def check_bounded_by_document(part: nn.Module, stream: Stream, cuts: Sequence[int]) -> None:
    """Raises AssertionError if a row of several documents keeps more, or less, than its last document alone does.
    Counts of rows, which only ragged states have, are not compared."""
    b, index_R = list(stream.documents())[-1]
    last = Stream(stream.x_BTD[b, index_R][None], stream.ids_BT[b, index_R][None])
    held, alone = (_vector_bytes(final_state(part, s, c)) for s, c in ((stream, cuts), (last, [])))
    what = f"not bounded: after a document at {index_R.tolist()}, the state holds"
    assert held == alone, f"{what} {held} bytes of vectors, alone it is {alone}"


def _vector_bytes(state: Any) -> int:
    return state_bytes([tensor for tensor in state_tensors(state) if tensor.is_floating_point()])


def final_state(part: nn.Module, stream: Stream, cuts: Sequence[int]) -> Any:
    """The state after a whole stream."""
    state = None
    for x_BCD, span in stream.pieces(cuts):
        state = part(x_BCD, span, state)[1]
    return state
