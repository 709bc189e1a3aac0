"""The loader: an endless sequence of batches that can be stopped anywhere and resumed exactly.

The stream of N tokens is a ring. Every epoch turns it by a random phase, cuts it in tiles of T tokens from
there, and takes S = N // (B T) steps of B tiles, so a window is hardly ever seen twice. Each token is a target
once an epoch, but for fewer than B T that do not fill a step; which these are changes from epoch to epoch.

    shuffled   step s takes the tiles s B ... s B + B - 1 of a random permutation
    carried    row b walks through the tiles b S ... b S + S - 1, so that a model's state can be carried on

All of it follows from (seed, epoch, step), and is computed when it is needed: nothing else is to be saved.

Legend: N tokens, S steps an epoch, B rows, T positions (the window).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from everlong.core.errors import CheckpointError, DataError
from everlong.data.batch import IGNORED, Batch
from everlong.data.store import TokenStore


class Loader(Iterator[Batch]):
    """Batches of a store, without end.

    Args:
        store: the documents.
        window: T, positions of a row.
        batch: B, rows of a batch.
        seed: which of the random orders to take.
        carry: let each row continue where the last batch ended.

    Raises:
        DataError: a setting is out of range, or the store is smaller than one batch.
    """

    def __init__(self, store: TokenStore, *, window: int, batch: int, seed: int, carry: bool = False) -> None:
        _check(len(store.tokens), window, batch, seed)
        self.store, self.window, self.batch, self.seed, self.carry = store, window, batch, seed, carry
        self.steps = len(store.tokens) // (window * batch)
        """S, the steps of an epoch."""
        self.epoch, self.step = 0, 0
        """Where the next batch lies."""
        self._tokens_N = np.asarray(store.tokens)  # a plain array: a memmap object is slow to index
        self._byte_lengths_V = store.codec.byte_lengths()
        self._planned: tuple[int, Int64[np.ndarray, "s b"]] | None = None

    def __next__(self) -> Batch:
        batch = self._batch(self._starts(self.epoch)[self.step])
        self.step += 1
        if self.step == self.steps:
            self.epoch, self.step = self.epoch + 1, 0
        return batch

    def state_dict(self) -> dict[str, Any]:
        """Where the next batch lies, and in what: plain JSON values."""
        return {"epoch": self.epoch, "step": self.step, **self._identity()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues with the batch that was next when `state` was taken.

        Raises:
            CheckpointError: the state is damaged, or of another corpus or setting.
        """
        for name, own in self._identity().items():
            if state.get(name) != own:
                raise CheckpointError(f"loader.{name}", state.get(name), f"is {own!r} here: resume as you began")
        for name, end in (("epoch", None), ("step", self.steps)):
            value = state.get(name)
            if type(value) is not int or value < 0 or (end is not None and value >= end):
                raise CheckpointError(f"loader.{name}", value, "is no place in this corpus: take another checkpoint")
        self.epoch, self.step = state["epoch"], state["step"]

    def _identity(self) -> dict[str, Any]:
        """What must be the same for a state to mean the same."""
        settings = {"window": self.window, "batch": self.batch, "seed": self.seed, "carry": self.carry}
        return {"corpus": self.store.fingerprint, **settings}

    def _starts(self, epoch: int) -> Int64[np.ndarray, "s b"]:
        """Where each row of each step begins, from 0 to below 2 N: the second N are the ring's next turn."""
        if self._planned is None or self._planned[0] != epoch:
            self._planned = epoch, self._plan(epoch)
        return self._planned[1]

    def _plan(self, epoch: int) -> Int64[np.ndarray, "s b"]:
        generator = np.random.Generator(np.random.PCG64([self.seed, epoch]))
        phase = generator.integers(len(self._tokens_N))
        if self.carry:
            tiles_SB = np.arange(self.steps * self.batch).reshape(self.batch, self.steps).T
        else:
            tiles = generator.permutation(len(self._tokens_N) // self.window)
            tiles_SB = tiles[: self.steps * self.batch].reshape(self.steps, self.batch)
        return phase + self.window * tiles_SB

    def _batch(self, starts_B: Int64[np.ndarray, " b"]) -> Batch:
        places = starts_B[:, None] + np.arange(self.window + 1)  # one more, which is only a target
        rows = np.take(self._tokens_N, places, mode="wrap").astype(np.int64)
        ids_BT, targets_BT = rows[:, :-1].copy(), rows[:, 1:].copy()
        byte_count_B = self._byte_lengths_V[targets_BT].sum(axis=1)
        targets_BT[targets_BT == self.store.codec.bos] = IGNORED
        return Batch(
            torch.from_numpy(ids_BT),
            torch.from_numpy(targets_BT),
            self._documents(starts_B, ids_BT),
            torch.from_numpy(byte_count_B),
            fresh=not self.carry or self.step == 0,
        )

    def _documents(
        self, starts_B: Int64[np.ndarray, " b"], ids_BT: Int64[np.ndarray, "b t"]
    ) -> Int64[Tensor, "b t"] | None:
        """The number of each position's document; it counts on where the ring begins its next turn."""
        begins_BT = ids_BT == self.store.codec.bos
        begins_BT[:, 0] = False  # a document that begins with the row makes no border within it
        if not self.carry and not begins_BT.any():
            return None
        turn_B, place_B = np.divmod(starts_B, len(self._tokens_N))
        first_B = np.searchsorted(self.store.offsets, place_B, side="right") - 1 + turn_B * len(self.store)
        return torch.from_numpy(first_B[:, None] + np.cumsum(begins_BT, axis=1))


def _check(tokens: int, window: int, batch: int, seed: int) -> None:
    for name, value, least in (("window", window, 1), ("batch", batch, 1), ("seed", seed, 0)):
        if value < least:
            raise DataError(name, value, f"must be {least} or more")
    if tokens < window * batch:
        remedy = f"take {window * batch} tokens, but there are {tokens}: give more data, or less of either"
        raise DataError("window x batch", f"{window} x {batch}", remedy)
