"""A batch: rows of the stream, and what is to be learnt from each position.

Legend: B rows, T positions (the window).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Int64
from torch import Tensor

from everlong.core.errors import DataError

IGNORED = -100
"""The target where nothing is to be learnt, as `torch.nn.functional.cross_entropy` knows it."""


@dataclass(frozen=True, eq=False)
class Batch:
    """Rows of the stream and their targets."""

    ids_BT: Int64[Tensor, "b t"]
    targets_BT: Int64[Tensor, "b t"]
    """The id after each position; `IGNORED` where that is a BOS, since nothing foretells the next document."""
    documents_BT: Int64[Tensor, "b t"] | None
    """Number, along the stream, of each position's document. `None`: every row lies within one document and
    continues no earlier batch."""
    byte_count_B: Int64[Tensor, " b"]
    """True bytes that each row's learnt targets stand for; always on the CPU."""
    fresh: bool
    """True if no row continues an earlier batch: a carried state must be dropped."""

    @property
    def byte_count(self) -> int:
        """True bytes that the learnt targets stand for."""
        return int(self.byte_count_B.sum())

    @property
    def learnt(self) -> int:
        """Number of learnt targets, which a mean loss is the mean over."""
        return int((self.targets_BT != IGNORED).sum())

    def split(self, n: int) -> list[Batch]:
        """The same rows in n batches of equal size, for gradient accumulation or several ranks.

        Raises:
            DataError: n does not divide the number of rows.
        """
        rows = len(self.ids_BT)
        if n < 1 or rows % n:
            raise DataError("split", n, f"must divide the batch's {rows} rows")
        return [self._rows(slice(start, start + rows // n)) for start in range(0, rows, rows // n)]

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on a device."""
        ids_BT, targets_BT = (x.to(device, non_blocking=True) for x in (self.ids_BT, self.targets_BT))
        documents_BT = None if self.documents_BT is None else self.documents_BT.to(device, non_blocking=True)
        return replace(self, ids_BT=ids_BT, targets_BT=targets_BT, documents_BT=documents_BT)

    def _rows(self, rows: slice) -> Batch:
        documents_BT = None if self.documents_BT is None else self.documents_BT[rows]
        return Batch(self.ids_BT[rows], self.targets_BT[rows], documents_BT, self.byte_count_B[rows], self.fresh)


@runtime_checkable
class Batches(Protocol):
    """An endless sequence of batches that resumes exactly: what training needs of a `Loader`, and of its like."""

    window: int
    """T, positions of a row."""
    batch: int
    """B, rows of a batch."""
    carry: bool
    """Whether each row continues where the last batch ended."""

    def __next__(self) -> Batch: ...

    def state_dict(self) -> dict[str, Any]:
        """Where the next batch lies, and in what: plain JSON values."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues with the batch that was next when `state` was taken.

        Raises:
            CheckpointError: the state is damaged, or of other batches.
        """
        ...
