"""Keys and values of the past, and how rows of different lengths are kept apart.

Legend: B batch rows, T new positions, S cached positions, G key/value heads, D head size.

A cache holds real positions of the current document only, right-aligned, so that the last cached position stands
next to the first new one in every row and an index distance is a distance in the document.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from everlong.core.span import Span
from everlong.core.state import State
from everlong.kernels.pieces import Visibility


class KeyValues(State):
    """Cached keys and values; row b's are the last `length_B[b]`, or all where `length_B` is `None`."""

    k_BSGD: Float[Tensor, "b s g d"]
    v_BSGD: Float[Tensor, "b s g d"]
    length_B: Int64[Tensor, " b"] | None = None


def join(state: KeyValues | None, k_BTGD: Tensor, v_BTGD: Tensor) -> tuple[Tensor, Tensor]:
    """Cached and new keys and values, one after the other."""
    if state is None:
        return k_BTGD, v_BTGD
    past = [x.to(k_BTGD.dtype) for x in (state.k_BSGD, state.v_BSGD)]
    return torch.cat([past[0], k_BTGD], dim=1), torch.cat([past[1], v_BTGD], dim=1)


def keep_last(k_BSGD: Tensor, v_BSGD: Tensor, rows: int | None) -> KeyValues:
    """The cache after a plain call: the last `rows` positions, or all. Copies, so as not to pin the whole call."""
    if rows is None or rows >= k_BSGD.shape[1]:
        return KeyValues(k_BSGD, v_BSGD)
    start = k_BSGD.shape[1] - rows
    return KeyValues(k_BSGD[:, start:].clone(), v_BSGD[:, start:].clone())


@dataclass(frozen=True, eq=False)
class Ragged:
    """One call in compact form: each row's real positions first, in order, behind its cached ones.

    The joined axis has C cached and T new places; row b's real ones are [C - cached_B[b], C + count_B[b]).
    """

    index_BT: Int64[Tensor, "b t"]
    """Which position of the call stands at a compact place."""
    rank_BT: Int64[Tensor, "b t"]
    """The compact place of a position of the call; arbitrary where it is not real."""
    count_B: Int64[Tensor, " b"]
    """Real positions in this call."""
    cached_B: Int64[Tensor, " b"]
    """Real positions in the cache."""
    past: int
    """C, places in the cache."""
    first_BT: Int64[Tensor, "b t"]
    """Joined place of the first position of the document that a compact place belongs to."""

    @classmethod
    def of(cls, span: Span, state: KeyValues | None) -> Ragged:
        B, T = span.ids_BT.shape
        past = 0 if state is None else state.k_BSGD.shape[1]
        real = torch.ones_like(span.ids_BT, dtype=torch.bool) if span.real_BT is None else span.real_BT
        cached = span.ids_BT.new_full((B,), past) if state is None or state.length_B is None else state.length_B
        index = torch.argsort((~real).byte(), dim=1, stable=True)
        place = torch.arange(past, past + T, device=index.device)
        start = torch.zeros_like(real) if span.start_BT is None else span.start_BT.gather(1, index)
        first = torch.where(start, place, (past - cached)[:, None]).cummax(1).values
        return cls(index, real.cumsum(1) - 1, real.sum(1), cached, past, first)

    def documents(self) -> list[tuple[int, int, int, int]]:
        """What the call brings of each document, where nothing is cached: first batch row, number of batch rows, first
        compact place, length. Neighbouring rows that are filled by one document each are taken together."""
        T, found = self.index_BT.shape[1], list[tuple[int, int, int, int]]()
        for row, (firsts, count) in enumerate(zip(self.first_BT.tolist(), self.count_B.tolist(), strict=True)):
            begins = sorted(set(firsts[:count]))
            if begins == [0] and count == T and found and sum(found[-1][:2]) == row and found[-1][2:] == (0, T):
                found[-1] = (found[-1][0], found[-1][1] + 1, 0, T)
            else:
                found += [
                    (row, 1, begin, end - begin) for begin, end in zip(begins, [*begins[1:], count], strict=False)
                ]
        return found

    def compact(self, x_BTHD: Float[Tensor, "b t h d"]) -> Float[Tensor, "b t h d"]:
        """Moves each row's real positions to its front."""
        return _rows(x_BTHD, self.index_BT)

    def restore(self, x_BTHD: Float[Tensor, "b t h d"]) -> Float[Tensor, "b t h d"]:
        """The inverse of `compact`, up to what stands at positions that are not real."""
        return _rows(x_BTHD, self.rank_BT.clamp(min=0))

    @property
    def place_T(self) -> Int64[Tensor, " t"]:
        """Joined places of the new positions."""
        T = self.index_BT.shape[1]
        return torch.arange(self.past, self.past + T, device=self.index_BT.device)

    @property
    def real_BS(self) -> Bool[Tensor, "b s"]:
        """Which joined places hold a real position."""
        s = torch.arange(self.past + self.index_BT.shape[1], device=self.index_BT.device)
        return (s >= (self.past - self.cached_B)[:, None]) & (s < (self.past + self.count_B)[:, None])

    def visibility(self, reach: int | None = None) -> Visibility:
        """Visibility of the document's earlier positions, at most `reach` of them with the query itself."""
        low_BT = self.first_BT if reach is None else self.first_BT.clamp(min=self.place_T - reach + 1)
        return Visibility(low_BT, self.high_BT, self.order_BS)

    @property
    def high_BT(self) -> Int64[Tensor, "b t"]:
        """Joined place of each query itself; -1, below every key, where it is padding."""
        return torch.where(self.real_BS[:, self.past :], self.place_T, -1)

    @property
    def order_BS(self) -> Int64[Tensor, "b s"]:
        """Joined places of the keys; beyond every query's reach where nothing real stands."""
        real_BS = self.real_BS
        return torch.where(real_BS, torch.arange(real_BS.shape[1], device=real_BS.device), real_BS.shape[1])

    @property
    def begin_B(self) -> Int64[Tensor, " b"]:
        """Joined place of the first position of the document that each row is in after the call."""
        before_B1 = (self.past - self.cached_B)[:, None]
        return torch.cat([before_B1, self.first_BT], dim=1).gather(1, self.count_B[:, None])[:, 0]

    def keep(self, k_BSGD: Tensor, v_BSGD: Tensor, rows: int | Int64[Tensor, " b"] | None) -> KeyValues:
        """The cache after this call: the current document's last `rows` positions, or all of them; a tensor gives
        every batch row its own number."""
        place_S = torch.arange(k_BSGD.shape[1], device=k_BSGD.device)
        keep_BS = self.real_BS & (place_S >= self.begin_B[:, None])
        if rows is not None:
            keep_BS &= place_S >= (self.past + self.count_B - rows)[:, None]
        return select(keep_BS, k_BSGD, v_BSGD)


def select(keep_BS: Bool[Tensor, "b s"], k_BSGD: Tensor, v_BSGD: Tensor) -> KeyValues:
    """The cache of the kept places of each row, in order, at its right end; zeros fill the shorter rows. Rows that turn
    out equally long are a plain cache."""
    length_B = keep_BS.sum(1)
    lengths = length_B.tolist()
    size = max(lengths)
    index_BS = torch.argsort(keep_BS.byte(), dim=1, stable=True)[:, keep_BS.shape[1] - size :]
    hole_BS = ~keep_BS.gather(1, index_BS)
    k_BRGD, v_BRGD = (_rows(x, index_BS).masked_fill(hole_BS[..., None, None], 0) for x in (k_BSGD, v_BSGD))
    return KeyValues(k_BRGD, v_BRGD, None if min(lengths) == size else length_B)


def _rows(x_BSGD: Tensor, index_BR: Tensor) -> Tensor:
    return x_BSGD.gather(1, index_BR[..., None, None].expand(-1, -1, *x_BSGD.shape[2:]))
