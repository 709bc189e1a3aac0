"""What implementations of Infini-attention get wrong, each as a part."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from everlong import Span
from everlong.core.state import detach
from everlong.kernels.recall import read, sigma
from everlong.sequence.infini import InfiniAttention
from everlong.sequence.infini_memory import Linear, Memory, StableDelta
from everlong.sequence.position import Rotary
from tests.laws.mutants.base import Mutant

PLAIN: dict[str, Any] = {"width": 8, "heads": 2, "kv_heads": 2, "position": None, "segment": 3}
ROPE: dict[str, Any] = {**PLAIN, "position": Rotary.Config()}
GROUPED: dict[str, Any] = {**PLAIN, "heads": 4, "kv_heads": 2}
LINEAR: dict[str, Any] = {**PLAIN, "update": Linear.Config()}


class DetachesTheMemory(InfiniAttention):
    """No gradient through what was written, so that nothing learns what to write."""

    def written(self, k_BKGNE, v_BKGNE, memory, fresh_BK=None):
        return detach(super().written(k_BKGNE, v_BKGNE, memory, fresh_BK))


class HasADeadGate(InfiniAttention):
    """A gate that stays where it is."""

    def read(self, q_BJLHE, local_BJLHE, memory):
        both = (x.flatten(0, 1) for x in (q_BJLHE, local_BJLHE, memory.beside))
        return read(*both, torch.sigmoid(self.gate.detach())).view_as(local_BJLHE)


class HalvesTheFirstSegment(InfiniAttention):
    """Mixes with an empty memory as if it had answered zero."""

    def read(self, q_BJLHE, local_BJLHE, memory):
        return super().read(q_BJLHE, local_BJLHE, replace(memory, z_BGE=memory.z_BGE + 1e-30))


class WritesBeforeReading(InfiniAttention):
    """A segment reads itself."""

    def closed(self, raw_BSGE, v_BSGE, memory):
        memories, last = super().closed(raw_BSGE, v_BSGE, memory)
        one_later = (torch.cat([x[:, 1:], x[:, -1:]], 1) for x in (memories.m_BGEF, memories.z_BGE))
        return Memory(*one_later), last


class WritesTurnedKeys(InfiniAttention):
    """A memory whose keys carry positions."""

    def joined(self, k_BTGE, raw_BTGE, v_BTGE, state):
        k_BSGE, _, v_BSGE = super().joined(k_BTGE, raw_BTGE, v_BTGE, state)
        return k_BSGE, k_BSGE, v_BSGE


class TilesTheGroups(InfiniAttention):
    """The memories of key/value heads in the order 0, 1, 0, 1 for query heads in the order 0, 0, 1, 1."""

    def read(self, q_BJLHE, local_BJLHE, memory):
        both = (rearrange(x, "b j l (r g) e -> b j l (g r) e", g=self.kv_heads) for x in (q_BJLHE, local_BJLHE))
        return rearrange(super().read(*both, memory), "b j l (g r) f -> b j l (r g) f", g=self.kv_heads)


class ScramblesHeads(InfiniAttention):
    """Positions and heads of queries split without a transposition."""

    def local(self, q_BTHE, k_BSGE, v_BSGE, place, shape):
        B, T, H, E = q_BTHE.shape
        return super().local(q_BTHE.reshape(B, H, T, E).transpose(1, 2), k_BSGE, v_BSGE, place, shape)


class ForgetsThePrompt(InfiniAttention):
    """Goes on from the open segment alone, as if the prompt had begun there."""

    def forward(self, x_BTD: Tensor, span: Span, state: Any = None) -> tuple[Tensor, Any]:
        if state is not None:
            state = replace(state, memory=Memory(state.memory.m_BGEF * 0, state.memory.z_BGE * 0))
        return super().forward(x_BTD, span, state)


class DoesNotDivide(InfiniAttention):
    """Recalls the weighted sum, and not the average."""

    def read(self, q_BJLHE, local_BJLHE, memory):
        features = sigma(rearrange(q_BJLHE, "b j l (g r) e -> b j g l r e", g=self.kv_heads)).flatten(3, 4)
        summed = rearrange(features @ memory.m_BGEF, "b j g (l r) f -> b j l (g r) f", l=q_BJLHE.shape[2])
        known = (memory.z_BGE > 0).any(-1).repeat_interleave(self.heads // self.kv_heads, 2)[:, :, None, :, None]
        return torch.lerp(local_BJLHE, summed, torch.sigmoid(self.gate)[:, None] * known)


class UnnormalisedDelta(StableDelta):
    """Takes what is stored for what is recalled."""

    class Config(StableDelta.Config):
        pass

    def divisor(self, before_BGE: Tensor, after_BGE: Tensor) -> Tensor:
        return torch.ones_like(after_BGE)


class WritesWithoutNormaliser(InfiniAttention):
    """A delta rule that does not divide."""

    def __init__(self, config: InfiniAttention.Config) -> None:
        super().__init__(config)
        self.update = UnnormalisedDelta(UnnormalisedDelta.Config(), self.kv_heads, self.head)


class WritesPadding(InfiniAttention):
    """Ignores which positions are real."""

    def forward(self, x_BTD: Tensor, span: Span, state: Any = None) -> tuple[Tensor, Any]:
        return super().forward(x_BTD, replace(span, real_BT=None), state)


class RunsSegmentsOverDocuments(InfiniAttention):
    """Segments and memory go on from one document to the next."""

    def forward(self, x_BTD: Tensor, span: Span, state: Any = None) -> tuple[Tensor, Any]:
        return super().forward(x_BTD, replace(span, start_BT=torch.zeros_like(span.ids_BT, dtype=torch.bool)), state)


class CarriesTheMemoryOver(InfiniAttention):
    """Begins segments with documents, but not the memory."""

    def written(self, k_BKGNE, v_BKGNE, memory, fresh_BK=None):
        fresh = None if fresh_BK is None else torch.zeros_like(fresh_BK)
        return super().written(k_BKGNE, v_BKGNE, memory, fresh)


class PinsEveryMemory(InfiniAttention):
    """Keeps all memories of the call alive."""

    def closed(self, raw_BSGE, v_BSGE, memory):
        memories, _ = super().closed(raw_BSGE, v_BSGE, memory)
        return memories, Memory(memories.m_BGEF[:, -1], memories.z_BGE[:, -1])


class CountsNoReading(InfiniAttention):
    """Declares local attention and writing alone."""

    def flops(self, T: int) -> int:
        return super().flops(T) - 2 * T * self.heads * self.head * (self.head + 1)


def _mutants(message: str, *parts: type[InfiniAttention], numbers: dict[str, Any] = PLAIN) -> list[Mutant]:
    return [Mutant(part, message, numbers, InfiniAttention.Config) for part in parts]


NOT_CAUSAL = _mutants("what comes after changes", WritesBeforeReading, ScramblesHeads)
NOT_SPLIT_INVARIANT = _mutants("the output: differs", ForgetsThePrompt)
NOT_ISOLATED = [
    *_mutants("itself alone", WritesPadding, RunsSegmentsOverDocuments),
    *_mutants("itself alone", CarriesTheMemoryOver, numbers={**LINEAR, "segment": 1}),
]
NOT_BOUNDED = _mutants("the state holds", PinsEveryMemory)
NOT_ACCOUNTED = _mutants("FLOPs, declared", CountsNoReading)
NOT_THE_ORACLE = [
    *_mutants("auto against the oracle: the gradient", DetachesTheMemory, HasADeadGate),
    *_mutants("auto against the oracle: the output", HalvesTheFirstSegment, DoesNotDivide, WritesWithoutNormaliser),
    *_mutants("auto against the oracle: the output", WritesTurnedKeys, numbers=ROPE),
    *_mutants("auto against the oracle: the output", TilesTheGroups, numbers=GROUPED),
]
