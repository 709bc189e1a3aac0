"""Speed and memory of generation against the length of the context.

The context is random ids, read in pieces; then single tokens are decoded and timed. What is timed depends on the
machine and on whatever else it does; the bytes of state do not.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from everlong.core.config import check
from everlong.core.state import state_bytes
from everlong.data.progress import progress
from everlong.evaluate.suites.measured import check_length
from everlong.generate.prompts import PIECE
from everlong.generate.stream import longest_call
from everlong.model.language_model import LanguageModel, StreamState

STEPS = 32
"""Tokens that are decoded and timed."""


@dataclass(frozen=True)
class Speed:
    """One length of context."""

    length: int
    """Tokens of context."""
    reading: float
    """Tokens a second while it was read."""
    decoding: float
    """Tokens a second behind it: 1 / the median of single steps."""
    state_bytes: int
    """Memory that the state keeps alive, measured."""


def speed(model: LanguageModel, lengths: Sequence[int], *, seed: int = 0) -> list[Speed]:
    """Measures each length on its own, with one row.

    Raises:
        ConfigError: a length is below 1, or there is none.
        ContextError: a length and the tokens decoded behind it are beyond the model's `context_limit`.
    """
    with progress("speed", sum(lengths)) as advance:
        return speeds(model, lengths, advance, seed=seed)


def speeds(
    model: LanguageModel, lengths: Sequence[int], advance: Callable[[float], None], *, seed: int = 0
) -> list[Speed]:
    """The same, for one who shows the progress: `advance` is called with the tokens just read."""
    check(
        len(lengths) > 0 and min(lengths) >= 1, "lengths", tuple(lengths), "must be at least 1 each, and at least one"
    )
    check_length(model, max(lengths) + STEPS)
    return [_measured(model, length, torch.Generator().manual_seed(seed), advance) for length in lengths]


@torch.inference_mode()
def _measured(model: LanguageModel, length: int, generator: torch.Generator, advance: Callable[[float], None]) -> Speed:
    device, state = next(model.parameters()).device, None
    begun, piece = time.perf_counter(), min(PIECE, longest_call(model, 1))
    for start in range(0, length, piece):
        ids_1T = torch.randint(model.config.vocabulary, (1, min(piece, length - start)), generator=generator)
        state = model(ids_1T.to(device), state).state
        advance(float(ids_1T.shape[1]))
    reading = time.perf_counter() - begun
    assert state is not None  # the length is at least 1
    held = state_bytes(state)
    return Speed(length, length / reading, 1 / statistics.median(_steps(model, state)), held)


def _steps(model: LanguageModel, state: StreamState) -> list[float]:
    """Seconds of single tokens, each the likeliest after the one before."""
    ids_11, seconds = torch.zeros(1, 1, dtype=torch.int64, device=next(model.parameters()).device), []
    for _ in range(STEPS):
        begun = time.perf_counter()
        output = model(ids_11, state)
        state, ids_11 = output.state, output.logits.argmax(-1)
        ids_11.tolist()  # waits for a device
        seconds.append(time.perf_counter() - begun)
    return seconds
