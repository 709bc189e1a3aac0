"""Models that cheat, over the streaming interface: one copies its prompt, one knows the answers.

Legend: B batch rows, T positions, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

import everlong
from everlong import LanguageModel
from everlong.core.state import State
from everlong.data import Codec
from everlong.evaluate.suites import Example
from everlong.model.language_model import Output, StreamState


class History(State):
    """All that each row has heard, and how many of the last calls were single tokens."""

    ids_BT: Tensor
    length_B: Tensor
    made_B: Tensor
    row_B: Tensor
    """The rows' numbers at the beginning."""


class Fake(LanguageModel):
    """Says one id for certain at each position."""

    def forward(self, ids, state=None, *, documents=None, real=None):
        B, T = ids.shape
        real = torch.ones(B, T, dtype=torch.bool) if real is None else real
        empty = torch.zeros(B, dtype=torch.int64)
        before = (
            History(torch.zeros(B, 0, dtype=torch.int64), empty, empty, torch.arange(B))
            if state is None
            else state.body
        )
        made_B = before.made_B + 1 if state is not None and T == 1 else empty
        rows = [torch.cat([r[:n], i[m]]) for r, n, i, m in zip(before.ids_BT, before.length_B, ids, real, strict=True)]
        length_B = torch.tensor([len(row) for row in rows])
        history = History(torch.nn.utils.rnn.pad_sequence(rows, batch_first=True), length_B, made_B, before.row_B)
        said_BT = torch.zeros(B, T, dtype=torch.int64)
        for b, (row, new) in enumerate(zip(rows, real.sum(1).tolist(), strict=True)):
            said = self.say(int(before.row_B[b]), row, int(made_B[b]), new, state is None)
            said_BT[b, real[b]] = torch.as_tensor(said, dtype=torch.int64)
        logits_BTV = torch.nn.functional.one_hot(said_BT, self.config.vocabulary).float()
        return Output(logits_BTV, StreamState(length_B, empty, history), {}, {})

    def say(self, b: int, heard: Tensor, made: int, new: int, begins: bool) -> list[int]:
        """What follows each of the last `new` ids that row b (as it began) has heard, `made` of them its own."""
        raise NotImplementedError


class Copier(Fake):
    """When it is to speak, it says its prompt again, from a place counted from the beginning or the end."""

    place = 1  # behind BOS

    def say(self, b, heard, made, new, begins):
        prompt = heard[: len(heard) - made]
        start = self.place if self.place >= 0 else max(1, len(prompt) + self.place)
        return [int(prompt[min(start + made, len(prompt) - 1)])] * new


class Oracle(Fake):
    """Knows what follows in every example; they must be asked for in the order given, `group` at a time."""

    golds: list[list[int]]
    turn = 0

    def say(self, b, heard, made, new, begins):
        if begins and b == 0:
            self.turn, self.first = self.turn + self.group, self.turn
        whole = self.golds[self.first + b]
        end = len(heard)
        assert heard.tolist() == whole[:end]  # nothing was truncated, lost or read twice
        following = [*whole[1:], self.eos]
        return following[end - new : end]


def fake(kind: type[Fake], vocabulary: int, **attributes: object) -> Fake:
    """A fake of any vocabulary."""
    config = everlong.config("linear:nano", layers=1, width=4, heads=1, vocabulary=vocabulary)
    made = kind(config)
    for name, value in attributes.items():
        object.__setattr__(made, name, value)
    return made


def oracle(codec: Codec, examples: Sequence[Example], group: int) -> Fake:
    """An oracle of these examples."""
    parts = [[np.array([codec.bos]), *map(codec.encode, example.parts)] for example in examples]
    golds = [np.concatenate(row).tolist() for row in parts]
    return fake(Oracle, codec.vocabulary, golds=golds, group=group, eos=codec.eos)
