"""How a model answers: prompts are streamed, answers are taught token by token and generated greedily.

Legend: B batch rows, T positions, V vocabulary.

A prompt is read once, in pieces, on carried state; of its logits only the likeliest ids are kept. From the state
behind it go both ways of answering, so memory is that of one piece, of the state and of the ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from everlong.core.state import select_rows
from everlong.data import IGNORED, Codec
from everlong.evaluate.suites.example import SPARE, Example
from everlong.evaluate.suites.tasks import Task, TextTask, batches
from everlong.generate.generation import allowed_ids
from everlong.generate.prompts import PIECE, Ids, right_padded
from everlong.generate.stream import check_codec, finite, longest_call
from everlong.model.language_model import LanguageModel, StreamState


@dataclass(frozen=True)
class Reply:
    """How a model answered an example."""

    taught: float
    """The share of the example's answers of which every token was likeliest, given those before it."""
    text: str
    """What it generated greedily for the last one."""


def replies(model: LanguageModel, codec: Codec, examples: Sequence[Example]) -> list[Reply]:
    """Lets a model answer examples, as one batch.

    Raises:
        ConfigError: the codec is not the model's.
        EverlongError: the model's numbers are not finite.
    """
    check_codec(model, codec)
    allowed_V = allowed_ids(model, codec, eos=True)
    asked = [_encoded(example, codec) for example in examples]
    golds = [row.golds[-1] for row in asked]
    likeliest_BT, state = likeliest(model, [row.prompt_T for row in asked], codec.pad, allowed_V)
    first_B = torch.tensor([int(ids_T[len(row.prompt_T) - 1]) for ids_T, row in zip(likeliest_BT, asked, strict=True)])
    after_BT, _ = likeliest(model, golds, codec.pad, allowed_V, state)
    last_right = [
        np.array_equal([first, *ids_T[: len(gold) - 1]], gold)
        for first, ids_T, gold in zip(first_B.tolist(), after_BT.tolist(), golds, strict=True)
    ]
    made = _greedy(model, first_B, state, [len(gold) + SPARE for gold in golds], codec.eos, allowed_V)
    return [
        Reply(float(np.mean([*_right(row, ids_T.numpy()), last])), codec.decode(own).decode("utf-8", "replace"))
        for row, ids_T, last, own in zip(asked, likeliest_BT, last_right, made, strict=True)
    ]


@dataclass(frozen=True)
class _Asked:
    """An example as ids."""

    prompt_T: np.ndarray
    """BOS, text, answer, text, ..., text."""
    golds: list[np.ndarray]
    """Every answer; the last is behind the prompt."""
    ends: list[int]
    """Where those within the prompt end."""


def _encoded(example: Example, codec: Codec) -> _Asked:
    parts = [np.array([codec.bos]), *map(codec.encode, example.parts)]
    ends = np.cumsum([len(part) for part in parts])
    return _Asked(np.concatenate(parts[:-1]), parts[2::2], ends[2:-1:2].tolist())


def accuracy(model: LanguageModel, task: Task | TextTask, *, window: int, rows: int, batch: int, seed: int) -> float:
    """The share of a task's targets that are the likeliest id where they are due.

    Args:
        rows: rows to draw, in batches of `batch`, the last of which may go beyond them.
    """
    right, due = 0, 0
    every_V = torch.ones(model.config.vocabulary, dtype=torch.bool, device=next(model.parameters()).device)
    for drawn in batches(task, window=window, batch=batch, seed=seed, count=-(-rows // batch)):
        likeliest_BT, _ = likeliest(model, list(drawn.ids_BT.numpy()), 0, every_V)
        due_BT = drawn.targets_BT != IGNORED
        right += int((likeliest_BT == drawn.targets_BT)[due_BT].sum())
        due += int(due_BT.sum())
    return right / due


@torch.inference_mode()
def likeliest(
    model: LanguageModel, ids: Ids, pad: int, allowed_V: Bool[Tensor, " v"], state: StreamState | None = None
) -> tuple[Int64[Tensor, "b t"], StreamState]:
    """The likeliest of the allowed ids behind each position of every row, on the CPU, and the state at their ends."""
    ids_BT, real_BT = right_padded(ids, pad, allowed_V.device)
    piece = min(PIECE, longest_call(model, len(ids)))
    likeliest_BT = torch.empty(ids_BT.shape, dtype=torch.int64)  # whole: small pieces kept would pin freed logits
    for start in range(0, ids_BT.shape[1], piece):
        real = real_BT[:, start : start + piece]
        output = model(ids_BT[:, start : start + piece], state, real=None if bool(real.all()) else real)
        state = output.state
        likeliest_BT[:, start : start + piece] = _best(output.logits, allowed_V)
    assert state is not None  # every row has a token
    return likeliest_BT, state


@torch.inference_mode()
def _greedy(
    model: LanguageModel, first_B: Tensor, state: StreamState, most: list[int], eos: int, allowed_V: Tensor
) -> list[list[int]]:
    """The first token, which the prompt foretold, and those that follow. A row leaves when it has as many as it may
    have, so that it never grows beyond its length, or at EOS."""
    made, rows = [[token] for token in first_B.tolist()], list(range(len(most)))
    while going := [row for row in rows if len(made[row]) < most[row] and made[row][-1] != eos]:
        if len(going) < len(rows):
            state = select_rows(state, torch.tensor([rows.index(row) for row in going]))
        rows = going
        ids_B1 = torch.tensor([[made[row][-1]] for row in rows], device=allowed_V.device)
        output = model(ids_B1, state)
        state = output.state
        for row, token in zip(rows, _best(output.logits, allowed_V)[:, 0].tolist(), strict=True):
            made[row].append(token)
    return made


def _best(logits_BTV: Tensor, allowed_V: Tensor) -> Tensor:
    return finite(logits_BTV).masked_fill(~allowed_V, -torch.inf).argmax(-1).cpu()


def _right(asked: _Asked, likeliest_T: np.ndarray) -> list[bool]:
    """Of every answer within the prompt, whether each of its tokens was foretold."""
    return [
        np.array_equal(likeliest_T[end - len(gold) - 1 : end - 1], gold)
        for gold, end in zip(asked.golds[:-1], asked.ends, strict=True)
    ]
