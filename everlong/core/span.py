"""`Span`: what a stretch of the stream is.

Legend: B batch rows, T positions of this call.

A span is *plain* when every row is one document, all real and contiguous; it knows so without looking into a
tensor, and parts then take their fast paths. Otherwise rows may hold several documents (packing) and positions
that are not real (ragged rows, padding), anywhere in the row.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Span:
    """Describes the positions of one call to every part.

    Build one with `Span.plain_from` or `Span.ragged_from`.
    """

    ids_BT: Int64[Tensor, "b t"]
    """Token ids, for parts that look things up by them. Arbitrary where a position is not real."""
    position_BT: Int64[Tensor, "#b t"]
    """Place of each position within its document, from 0; one row if all rows are alike."""
    document_BT: Int64[Tensor, "b t"] | None = None
    """Which document a position belongs to. `None`: one document a row, the one that the state belongs to."""
    start_BT: Bool[Tensor, "b t"] | None = None
    """True at the first real position of a document: it hears nothing from before. `None` as `document_BT`."""
    real_BT: Bool[Tensor, "b t"] | None = None
    """False where a position is padding: it changes no state, and its output means nothing. `None`: all real."""
    auxiliary: dict[str, Float[Tensor, ""]] = field(default_factory=dict)
    """Named auxiliary losses that parts have reported for this call."""
    observed: dict[str, list[Tensor]] = field(default_factory=dict)
    """What parts have shown of this call, by name, one tensor a part in the order in which they ran."""

    @classmethod
    def plain_from(cls, ids_BT: Int64[Tensor, "b t"], position_B: Int64[Tensor, " b"] | None = None) -> Span:
        """A plain span whose rows continue at `position_B`, or at 0."""
        steps_1T = torch.arange(ids_BT.shape[1], device=ids_BT.device)[None]
        return cls(ids_BT, steps_1T if position_B is None else steps_1T + position_B[:, None])

    @classmethod
    def ragged_from(
        cls,
        ids_BT: Int64[Tensor, "b t"],
        document_BT: Int64[Tensor, "b t"],
        real_BT: Bool[Tensor, "b t"] | None,
        position_B: Int64[Tensor, " b"],
        before_B: Int64[Tensor, " b"],
    ) -> Span:
        """A span of packed or ragged rows.

        Args:
            document_BT: document ids; a change from one real position to the next begins a new document.
            real_BT: which positions are real; `None`: all.
            position_B: the place, in its document, at which each row would continue the document `before_B`.
            before_B: the document that each row's state belongs to; -1: none yet.
        """
        real = torch.ones_like(document_BT, dtype=torch.bool) if real_BT is None else real_BT
        start_BT = real & (document_BT != _previous_real(document_BT, real, before_B))
        count_BT = real.cumsum(1) - real.long()  # real positions before this one, in this call
        origin_BT = torch.where(start_BT, count_BT, -position_B[:, None]).cummax(1).values
        return cls(ids_BT, count_BT - origin_BT, document_BT, start_BT, real_BT)

    @property
    def plain(self) -> bool:
        """One document a row, all positions real."""
        return self.document_BT is None and self.real_BT is None

    def report(self, name: str, loss: Float[Tensor, ""]) -> None:
        """Adds an auxiliary loss; several parts that report one name are summed."""
        self.auxiliary[name] = self.auxiliary[name] + loss if name in self.auxiliary else loss

    def observe(self, name: str, value: Tensor) -> None:
        """Shows something worth looking at: which positions were routed, how far a gate is open. No gradient."""
        self.observed.setdefault(name, []).append(value.detach())

    def share(self, chosen_BT: Bool[Tensor, "b t"]) -> Float[Tensor, ""]:
        """Of the real positions, how many are chosen."""
        positions = chosen_BT.numel() if self.real_BT is None else self.real_BT.sum().clamp(min=1)
        return chosen_BT.sum() / positions


def by_part(observed: Mapping[str, Sequence[Tensor]]) -> Iterator[tuple[str, Tensor]]:
    """Everything that was shown, under a label of its own: its name, and which of how many parts has shown it."""
    for name, shown in observed.items():
        for i, value in enumerate(shown):
            yield label(name, i, len(shown)), value


def label(name: str, part: int, parts: int) -> str:
    """What `part`, from 0, of as many that show something under one name is called."""
    return name if parts == 1 else f"{name}, {part + 1} of {parts}"


def _previous_real(value_BT: Tensor, real_BT: Tensor, before_B: Tensor) -> Tensor:
    """For every position, `value` at the last real position before it, or `before` when there is none."""
    T = value_BT.shape[1]
    step_BT = torch.arange(1, T + 1, device=value_BT.device).expand_as(value_BT)
    last_BT = torch.where(real_BT, step_BT, 0).cummax(1).values  # 1 + index of the last real position, or 0
    shifted_BT = torch.cat([torch.zeros_like(last_BT[:, :1]), last_BT[:, :-1]], dim=1)
    return torch.cat([before_B[:, None], value_BT], dim=1).gather(1, shifted_BT)
