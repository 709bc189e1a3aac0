"""Text from a model, for many prompts at once, as it is made.

Legend: B batch rows, T positions, V vocabulary, W recent tokens.

Prompts are read in one pass, in pieces, and decoding goes token by token on the state; nothing is read twice. Rows do
not affect each other: each has random numbers of its own, and leaves the batch when it is finished.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from everlong.core.config import check
from everlong.core.state import select_rows
from everlong.data.codec import Codec
from everlong.generate.prompts import Ids, prompt_ids, read
from everlong.generate.sampling import Sampling, draw, generator_for, probabilities
from everlong.generate.stream import check_codec
from everlong.generate.text import Text, as_bytes
from everlong.model.language_model import LanguageModel, StreamState


@dataclass(frozen=True)
class Step:
    """What one token adds to one row."""

    row: int
    """Which prompt it belongs to."""
    token: int
    """The id that was chosen."""
    data: bytes
    """The bytes that became certain: none as long as they may begin a stop string."""
    text: str
    """The whole characters that became certain; U+FFFD stands for what is not UTF-8."""
    finished: Literal["eos", "stop", "length"] | None
    """Why the row ends here; `None`: it goes on."""


def generate(
    model: LanguageModel,
    codec: Codec,
    prompts: Sequence[bytes | str],
    *,
    max_tokens: int,
    sampling: Sampling | None = None,
    stop: Sequence[bytes | str] = (),
    stop_at_eos: bool = True,
    state: StreamState | None = None,
) -> Iterator[Step]:
    """Continues every prompt, one step a token and row.

    Args:
        prompts: one a row; an empty one is BOS alone.
        max_tokens: most tokens that a row gets.
        sampling: how tokens are chosen. `None`: `Sampling()`.
        stop: a row ends before any of these.
        stop_at_eos: whether EOS ends a row; if not, it is never chosen.
        state: streams that the prompts continue, row by row, such as a long document that `prefill` has read and
            `repeat_rows` has forked. `None`: every prompt begins a document.

    Raises:
        ContextError: no prompts, a state of other rows, an empty prompt that continues a state, or a prompt that
            exceeds the model's `context_limit` together with `max_tokens`; all before any work.
        ConfigError: `max_tokens` is below 1, a stop string is empty, or the codec is not the model's.
        DataError: a prompt or stop string is no text.
    """
    check(max_tokens >= 1, "max_tokens", max_tokens, "must be at least 1")
    check_codec(model, codec)
    stops = [as_bytes(text, "stop") for text in stop]
    check(all(stops), "stop", list(stop), "must not hold an empty string, which would end every text at once")
    sampling = Sampling() if sampling is None else sampling
    ids = prompt_ids(model, codec, prompts, state, new=max_tokens)
    recent = [deque(row[-sampling.repetition_window :].tolist(), sampling.repetition_window) for row in ids]
    generators = _generators(sampling.seed, prompts)
    rows = [_Row(*row, Text(stops)) for row in zip(range(len(ids)), recent, generators, strict=True)]
    decoding = _Decoding(model, sampling, codec.pad, allowed_ids(model, codec, eos=stop_at_eos))
    return _steps(codec, decoding, rows, ids, state, max_tokens)


class _Row:
    """One prompt and what has been made of it."""

    def __init__(self, index: int, recent: deque[int], generator: torch.Generator, text: Text) -> None:
        self.index, self.recent, self.generator, self.text = index, recent, generator, text
        self.finished: Literal["eos", "stop", "length"] | None = None

    def step(self, codec: Codec, token: int, *, last: bool) -> Step:
        """Takes the next token."""
        self.recent.append(token)
        data = self.text.add(codec.decode([token]))
        if self.text.stopped:
            self.finished = "stop"
        elif token == codec.eos:
            self.finished = "eos"
        elif last:
            self.finished = "length"
        if self.finished:
            data += self.text.rest()
        return Step(self.index, token, data, self.text.decode(data, final=bool(self.finished)), self.finished)


@dataclass(frozen=True)
class _Decoding:
    """How rows go from one token to the next."""

    model: LanguageModel
    sampling: Sampling
    pad: int
    allowed_V: Bool[Tensor, " v"]
    """Which ids may be chosen, on the model's device."""

    def choose(self, rows: list[_Row], logits_BV: Tensor) -> Tensor:
        """The next token of every row, on the CPU."""
        recent_BW = None
        if self.sampling.repetition_penalty != 1:
            W = self.sampling.repetition_window
            padded = [[self.pad] * (W - len(row.recent)) + [*row.recent] for row in rows]
            recent_BW = torch.tensor(padded, device=logits_BV.device)
        p_BV = probabilities(logits_BV.masked_fill(~self.allowed_V, -torch.inf), self.sampling, recent_BW)
        return draw(p_BV, [row.generator for row in rows])

    @torch.inference_mode()
    def advance(self, ids_B: Tensor, state: StreamState) -> tuple[Tensor, StreamState]:
        """Reads one token a row."""
        output = self.model(ids_B[:, None].to(self.allowed_V.device), state)
        return output.logits[:, -1], output.state


def _steps(
    codec: Codec,
    decoding: _Decoding,
    rows: list[_Row],
    ids: Ids,
    state: StreamState | None,
    max_tokens: int,
) -> Iterator[Step]:
    logits_BV, state = read(decoding.model, ids, codec.pad, state)
    for made in range(1, max_tokens + 1):
        ids_B = decoding.choose(rows, logits_BV)
        for row, token in zip(rows, ids_B.tolist(), strict=True):
            yield row.step(codec, token, last=made == max_tokens)
        going = [i for i, row in enumerate(rows) if not row.finished]
        if not going:
            return
        if len(going) < len(rows):
            rows, going_N = [rows[i] for i in going], torch.tensor(going)
            ids_B, state = ids_B[going_N], select_rows(state, going_N)
        logits_BV, state = decoding.advance(ids_B, state)


def _generators(seed: int, prompts: Sequence[bytes | str]) -> Iterator[torch.Generator]:
    """One generator a row; equal prompts get different ones."""
    seen: Counter[bytes] = Counter()
    for prompt in (as_bytes(text, "prompt") for text in prompts):
        yield generator_for(seed, prompt, copy=seen[prompt])
        seen[prompt] += 1


def allowed_ids(model: LanguageModel, codec: Codec, *, eos: bool) -> Bool[Tensor, " v"]:
    """Ids that stand for bytes, and EOS where it may be chosen; never BOS, PAD, or what only fills the vocabulary."""
    allowed_V = np.zeros(model.config.vocabulary, dtype=bool)
    allowed_V[: codec.vocabulary] = codec.byte_lengths() > 0
    allowed_V[codec.eos] = eos
    return torch.from_numpy(allowed_V).to(next(model.parameters()).device)
