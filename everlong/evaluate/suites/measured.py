"""What a model scores on a suite, and how sure that is.

An example is right or not, so the score is a share of n trials, and its interval is Wilson's (1927), which stays
within 0 and 1 and is honest for few trials.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from everlong.core.config import check
from everlong.core.errors import ContextError
from everlong.data import Codec
from everlong.data.progress import progress
from everlong.evaluate.suites.answers import Reply, replies
from everlong.evaluate.suites.example import Example, Suite, examples
from everlong.model.language_model import LanguageModel

ROWS_TOKENS = 16_384
"""Tokens of a batch of examples; a longer example is read alone."""

_Z = 1.959964  # 95 % of a normal distribution lie within so many standard deviations


@dataclass(frozen=True)
class Outcome:
    """One example and how it was answered."""

    expected: str
    generated: str
    depth: float | None
    """Where in the context the answer stood, from 0 to 1; `None`: everywhere."""
    exact: bool
    contained: float
    taught: float


@dataclass(frozen=True)
class Score:
    """What a model scores at one length."""

    suite: str
    length: int
    """Tokens that BOS, prompt and answer may take."""
    examples: int
    exact: float
    """The share of examples whose generated answer names what was asked for, and nothing else first."""
    interval: tuple[float, float]
    """Of `exact`, at 95 %."""
    contained: float
    """The mean share of items that the generated answer contains; a model that says everything scores here."""
    taught: float
    """The mean share of answers that were foretold token by token, given the gold tokens before."""
    chance: float
    """What `exact` is for a guess."""
    outcomes: tuple[Outcome, ...]


def measure_suite(
    model: LanguageModel, codec: Codec, suite: Suite, *, name: str, length: int, count: int, seed: int = 0
) -> Score:
    """Lets a model answer `count` examples of a length.

    Raises:
        ConfigError: `count` or `seed` is out of range, or the codec is not the model's.
        ContextError: the length is beyond the model's `context_limit`, or too short for the suite.
        EverlongError: the model's numbers are not finite.
    """
    check_length(model, length)
    asked = examples(suite, codec, length=length, count=count, seed=seed)
    outcomes: list[Outcome] = []
    with progress(f"{name}, {length:,} tokens", count * length) as advance:
        while group := list(islice(asked, max(1, ROWS_TOKENS // length))):
            answered = replies(model, codec, group)
            outcomes += [_outcome(example, reply) for example, reply in zip(group, answered, strict=True)]
            advance(float(len(group) * length))
    exact = sum(outcome.exact for outcome in outcomes)
    return Score(
        suite=name,
        length=length,
        examples=count,
        exact=exact / count,
        interval=wilson(exact, count),
        contained=sum(outcome.contained for outcome in outcomes) / count,
        taught=sum(outcome.taught for outcome in outcomes) / count,
        chance=suite.chance,
        outcomes=tuple(outcomes),
    )


def check_length(model: LanguageModel, length: int) -> None:
    """Raises `ContextError` if a model cannot take so many tokens."""
    limit = model.config.context_limit
    if limit is not None and length > limit:
        raise ContextError("length", length, f"is beyond this model's context_limit: take at most {limit}")


def wilson(right: int, trials: int) -> tuple[float, float]:
    """The interval of a share at 95 % (Wilson 1927)."""
    check(0 <= right <= trials and trials > 0, "right", right, f"must be from 0 to the number of trials, {trials}")
    share, weight = right / trials, _Z**2 / trials
    centre = (share + weight / 2) / (1 + weight)
    reach = _Z / (1 + weight) * math.sqrt(share * (1 - share) / trials + weight / (4 * trials))
    return max(0.0, centre - reach), min(1.0, centre + reach)


def by_depth(outcomes: Sequence[Outcome], parts: int = 5) -> tuple[tuple[float, float, int], ...]:
    """Share of exact answers in equal parts of the context: where each part begins, the share, how many."""
    found = []
    for part in range(parts):
        within = [o.exact for o in outcomes if o.depth is not None and min(int(o.depth * parts), parts - 1) == part]
        if within:
            found.append((part / parts, sum(within) / len(within), len(within)))
    return tuple(found)


def _outcome(example: Example, reply: Reply) -> Outcome:
    expected, text = ", ".join(example.items), reply.text
    return Outcome(expected, text, example.depth, example.exact(text), example.contained(text), reply.taught)
