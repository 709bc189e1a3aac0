"""Looking at the next batch while this one is learnt from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from everlong.data import Batch, Batches


class Ahead(Batches):
    """The batches of a loader, of which each is shown to somebody before the one before it is given out.

    Where it stands is where the batch stands that it gives out next; so a run resumes as it would with the loader.

    Args:
        loader: where the batches come from.
        look: is shown them, one ahead.
    """

    def __init__(self, loader: Batches, look: Callable[[Batch], object]) -> None:
        self.loader, self.look = loader, look
        self.window, self.batch, self.carry = loader.window, loader.batch, loader.carry
        self._next: tuple[dict[str, Any], Batch] | None = None

    def __next__(self) -> Batch:
        batch = next(self.loader) if self._next is None else self._next[1]
        self._next = self.loader.state_dict(), next(self.loader)
        self.look(self._next[1])
        return batch

    def state_dict(self) -> dict[str, Any]:
        return self.loader.state_dict() if self._next is None else self._next[0]

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.loader.load_state_dict(state)
        self._next = None
