"""Long-context suites and speed as metrics of a trained model.

Questions follow from their suite, length and number alone, so every cell is asked the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from everlong.core.config import Config, check
from everlong.data import Codec
from everlong.evaluate.suites import SUITES, check_length, examples, measure_suite, suite
from everlong.evaluate.suites.speed import STEPS, speeds
from everlong.model.language_model import LanguageModel

SPEED = "speed"


class Questions(Config):
    """How the suites among a study's metrics ask."""

    lengths: tuple[int, ...]
    """Bytes that a question takes with its answer, and that a token is timed behind."""
    examples: int = 50
    """Of every suite, at every length."""

    def __post_init__(self) -> None:
        distinct = len(self.lengths) >= 1 and len(set(self.lengths)) == len(self.lengths) and min(self.lengths) >= 1
        check(distinct, "questions.lengths", self.lengths, "must be at least one, of at least 1 each, all different")
        check(self.examples >= 1, "questions.examples", self.examples, "must be at least 1; 50 is usual")

    def check_room(self, metrics: Sequence[str], codec: Codec) -> None:
        """Makes sure that every suite fits into every length.

        Raises:
            ContextError: one does not; the smallest length is told.
        """
        for name in metrics:
            if name in SUITES:
                examples(suite(name), codec, length=min(self.lengths), count=self.examples)

    def check_model(self, config: LanguageModel.Config, metrics: Sequence[str]) -> None:
        """Makes sure that a model can take every length.

        Raises:
            ContextError: one is beyond its `context_limit`.
        """
        with torch.device("meta"):
            model = config.build()
        check_length(model, max(self.lengths) + (STEPS if SPEED in metrics else 0))

    def bytes(self, metrics: Sequence[str]) -> int:
        """That are read for them."""
        asked = sum(name in SUITES for name in metrics) * self.examples + (SPEED in metrics)
        return asked * sum(self.lengths)


def needs_questions(metrics: Sequence[str]) -> bool:
    """Whether there is a metric that has to be told lengths."""
    return any(name in SUITES or name == SPEED for name in metrics)


def answered(model: LanguageModel, codec: Codec, name: str, questions: Questions) -> dict[str, Any]:
    """What a model in evaluation mode scores on a suite, by length, and the state that it has for it.

    Raises:
        EverlongError: as `measure_suite` does.
    """
    asked = {"name": name, "count": questions.examples}
    scores = [measure_suite(model, codec, suite(name), length=length, **asked) for length in questions.lengths]
    return {
        "lengths": list(questions.lengths),
        "state_bytes": [model.state_bytes(length) for length in questions.lengths],
        "exact": [score.exact for score in scores],
        "contained": [score.contained for score in scores],
        "taught": [score.taught for score in scores],
        "chance": suite(name).chance,
    }


def timed(model: LanguageModel, questions: Questions, advance: Callable[[float], None]) -> dict[str, Any]:
    """Bytes a second behind contexts, and the state that is held there; `advance` is called with the bytes just read.

    Raises:
        ContextError: as `speed` does.
    """
    found = speeds(model, questions.lengths, advance)
    return {
        "lengths": list(questions.lengths),
        "state_bytes": [each.state_bytes for each in found],
        "reading": [each.reading for each in found],
        "decoding": [each.decoding for each in found],
    }
