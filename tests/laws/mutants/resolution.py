"""What implementations of hierarchies get wrong: each mutant is caught by a law."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor

from everlong import Config, Part, Span
from everlong.model.entropy import EntropyThreshold
from everlong.resolution.capped import Capped
from everlong.resolution.chunkers import Chunker, FixedPatches, Opening, SpaceLike
from everlong.resolution.convolutions import Convolutions
from everlong.resolution.hierarchy import Hierarchy, HierarchyState
from everlong.resolution.patches import Patches, PatchesState
from everlong.resolution.routing import Routing
from everlong.sequence.patch_attention import PatchAttention
from everlong.sequence.sparse import SparseAttention
from tests.laws.entries.resolution import PARTS, PATCHES, SHAPE, hierarchy, linear
from tests.laws.mutants.base import Mutant


class LooksAtTheNextToken(SpaceLike):
    def forward(self, x_BTD: Tensor, span: Span, start_BT: Tensor, state: Any = None) -> tuple[Opening, Any]:
        return super().forward(x_BTD, replace(span, ids_BT=span.ids_BT.roll(-1, 1)), start_BT, state)


class GoesOnAcrossDocuments(FixedPatches):
    def forward(self, x_BTD: Tensor, span: Span, start_BT: Tensor, state: Any = None) -> tuple[Opening, Any]:
        opening, state = super().forward(x_BTD, span, torch.zeros_like(start_BT), state)
        return replace(opening, opens_BT=opening.opens_BT | start_BT), state


class ComparesAcrossDocuments(Routing):
    """No first boundary of a document but where the vectors differ."""

    def forward(self, x_BTD: Tensor, span: Span, start_BT: Tensor, state: Any = None) -> tuple[Opening, Any]:
        nowhere_BT = torch.zeros_like(start_BT)
        nowhere_BT[:, 0] = start_BT[:, 0]
        return super().forward(x_BTD, span, nowhere_BT, state)


class ComparesWithPadding(Routing):
    def forward(self, x_BTD: Tensor, span: Span, start_BT: Tensor, state: Any = None) -> tuple[Opening, Any]:
        opening, state = super().forward(x_BTD, replace(span, real_BT=None), start_BT, state)
        real_BT = torch.ones_like(start_BT) if span.real_BT is None else span.real_BT
        return replace(opening, opens_BT=opening.opens_BT & real_BT), state


class ForgetsTheLastVector(Routing):
    def forward(self, x_BTD: Tensor, span: Span, start_BT: Tensor, state: Any = None) -> tuple[Opening, Any]:
        return super().forward(x_BTD, span, start_BT, None)


class DoubtsTheTokenItself(EntropyThreshold):
    """Opens chunks by how hard the next token is foretold from itself."""

    def entropy(self, span: Span, start_BT: Tensor, state: Any) -> tuple[Tensor, Any]:
        entropy_BT, state = super().entropy(span, start_BT, state)
        return entropy_BT.roll(-1, 1), state


class ForgetsWhatTheSmallModelHeard(EntropyThreshold):
    def entropy(self, span: Span, start_BT: Tensor, state: Any) -> tuple[Tensor, Any]:
        return super().entropy(span, start_BT, None)


class DoubtsAcrossDocuments(EntropyThreshold):
    """The small model hears a row as one document."""

    def entropy(self, span: Span, start_BT: Tensor, state: Any) -> tuple[Tensor, Any]:
        return super().entropy(span, torch.zeros_like(start_BT), state)


class CapsTheCall(Capped):
    """Counts chunks of the call, and not of the stretch."""

    def forward(self, x_BTD: Tensor, span: Span, start_BT: Tensor, state: Any = None) -> tuple[Opening, Any]:
        forgotten = None if state is None else replace(state, wanted_B=torch.zeros_like(state.wanted_B))
        return super().forward(x_BTD, span, start_BT, forgotten)


class CapsTheRow(Capped):
    """Counts the stretches of a row, and not of its documents."""

    def forward(self, x_BTD: Tensor, span: Span, start_BT: Tensor, state: Any = None) -> tuple[Opening, Any]:
        opening, after = super().forward(x_BTD, span, start_BT, state)
        wanted_BT = self.inner(x_BTD, span, start_BT, None if state is None else state.inner)[0].opens_BT
        return replace(opening, opens_BT=wanted_BT & (wanted_BT.cumsum(1) <= self.most)), after


def with_chunker(chunker: type[Chunker]) -> type[Hierarchy]:
    """A hierarchy whose chunker is broken."""

    def __init__(self: Hierarchy, config: Any) -> None:  # noqa: N807
        Hierarchy.__init__(self, config)
        self.chunker = chunker(config.chunker)

    return type(chunker.__name__, (Hierarchy,), {"__init__": __init__})


class DropsTheOpenChunk(Hierarchy):
    """Smooths anew in every call."""

    def forward(self, x_BTD: Tensor, span: Span, state: HierarchyState | None = None) -> tuple[Tensor, HierarchyState]:
        forgotten = None if state is None else replace(state, open_BD=torch.zeros_like(state.open_BD))
        return super().forward(x_BTD, span, forgotten)


class CountsChunksOfTheCall(Hierarchy):
    def forward(self, x_BTD: Tensor, span: Span, state: HierarchyState | None = None) -> tuple[Tensor, HierarchyState]:
        y_BTD, after = super().forward(x_BTD, span, state)
        return y_BTD, replace(after, chunks_B=after.chunks_B.clamp(max=1))


class ChargesTheInnerPartInFull(Hierarchy):
    def flops(self, T: int) -> int:
        return super().flops(T) - self.inner.flops(int(self.chunker.chunks(T))) + self.inner.flops(T)


class IsToldItsOwnPatch(Patches):
    """The inner part is not shifted by a patch."""

    def _complete(self, h_BTG: Tensor, state: PatchesState | None) -> tuple[Tensor, Tensor]:
        told_BKX, pending_BRG = super()._complete(h_BTG, state)
        return told_BKX.roll(-1, 1), pending_BRG


class LosesHalfAPatch(Patches):
    def forward(self, x_BTD: Tensor, span: Span, state: PatchesState | None = None) -> tuple[Tensor, PatchesState]:
        lost = None if state is None else replace(state, pending_BRG=torch.zeros_like(state.pending_BRG))
        return super().forward(x_BTD, span, lost)


class PinsWhatItIsTold(Patches):
    """What is pending is a view of all that was embedded."""

    def _complete(self, h_BTG: Tensor, state: PatchesState | None) -> tuple[Tensor, Tensor]:
        told_BKX, pending_BRG = super()._complete(h_BTG, state)
        return told_BKX, torch.cat([h_BTG, pending_BRG], dim=1)[:, h_BTG.shape[1] :]


class HearsTheLastPatch(Patches):
    """The local part goes on from patch to patch."""

    def _local_plain(self, l_BTL: Tensor, span: Span, slot_T: Tensor, first: int, state: Any) -> tuple[Tensor, Any]:
        return self.local(l_BTL, Span(span.ids_BT, slot_T[None]), state)


class ConvolvesAcrossDocuments(Convolutions):
    def forward(self, x_BTD: Tensor, span: Span, state: Any = None) -> tuple[Tensor, Any]:
        return super().forward(x_BTD, replace(span, start_BT=None), state)


class ForgetsLeftContext(Convolutions):
    def forward(self, x_BTD: Tensor, span: Span, state: Any = None) -> tuple[Tensor, Any]:
        return super().forward(x_BTD, span, None)


class KeepsAllPatches(PatchAttention):
    attend_plain = SparseAttention.attend_plain


FIXED = hierarchy(FixedPatches.Config(width=8, size=3), linear(8))
RECURRENT = hierarchy(Routing.Config(width=8), linear(8), linear)
LEARNED, SPACES = PARTS["hierarchy, learned"], PARTS["hierarchy, space-like"]
DOUBTFUL, CAPPED = PARTS["hierarchy, by entropy"], PARTS["hierarchy, by rising entropy, capped"]
OVERLAP = {**SHAPE, "width": 8, "position": None, "block": 3, "summary": 2}


def of(part: type[Part], config: Config, message: str) -> Mutant:
    """A mutant with the numbers of a configuration."""
    numbers = {name: getattr(config, name) for name in (f.name for f in fields(config))}
    return Mutant(part, message, numbers, type(config))


def patched(part: type[Patches], message: str) -> Mutant:
    return Mutant(part, message, PATCHES, Patches.Config)


def convolved(part: type[Convolutions], message: str) -> Mutant:
    return Mutant(part, message, {"width": 8, "taps": (3,)}, Convolutions.Config)


NOT_CAUSAL = [
    of(with_chunker(LooksAtTheNextToken), SPACES, "what comes after changes"),
    of(with_chunker(DoubtsTheTokenItself), DOUBTFUL, "what comes after"),
    patched(IsToldItsOwnPatch, "what comes after"),
]
NOT_SPLIT_INVARIANT = [
    of(with_chunker(ForgetsTheLastVector), LEARNED, "differs"),
    of(DropsTheOpenChunk, LEARNED, "the output: differs"),
    of(CountsChunksOfTheCall, SPACES, "differs"),
    of(with_chunker(ForgetsWhatTheSmallModelHeard), DOUBTFUL, "differs"),
    of(with_chunker(CapsTheCall), CAPPED, "differs"),
    convolved(ForgetsLeftContext, "the output: differs"),
    patched(LosesHalfAPatch, "the output: differs"),
]
NOT_ISOLATED = [
    of(with_chunker(GoesOnAcrossDocuments), FIXED, "itself alone"),
    of(with_chunker(ComparesAcrossDocuments), LEARNED, "itself alone"),
    of(with_chunker(ComparesWithPadding), RECURRENT, "not isolated"),
    of(with_chunker(DoubtsAcrossDocuments), DOUBTFUL, "itself alone"),
    of(with_chunker(CapsTheRow), CAPPED, "itself alone"),
    convolved(ConvolvesAcrossDocuments, "itself alone"),
]
NOT_BOUNDED = [
    patched(PinsWhatItIsTold, "the state holds"),
    Mutant(KeepsAllPatches, "the state holds", OVERLAP, PatchAttention.Config),
]
NOT_ACCOUNTED = [of(ChargesTheInnerPartInFull, FIXED, "FLOPs, declared")]
NOT_THE_ORACLE = [patched(HearsTheLastPatch, "against the oracle: the output")]
