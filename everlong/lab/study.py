"""A study: which architectures are compared, at what size, on what, how often, and how each is tuned.

A study is a Python file with a function `study()` that returns a `Study`. Every architecture gets the same bytes in
the same order per seed, and the same learning rates to choose from; `matching.py` makes their sizes comparable.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import re
from pathlib import Path
from typing import Any

import everlong
from everlong.core.config import Config, check, suggest
from everlong.core.errors import ConfigError
from everlong.data import Codec, codec_of
from everlong.lab.matching import Matching
from everlong.lab.metrics import NAMES, HeldOut
from everlong.lab.questions import Questions, needs_questions
from everlong.train import DataConfig, Trainer

LEAST_SEEDS = 3
"""Seeds below which a comparison cannot tell its own error."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.]*")


class Architecture(Config):
    """A contender: a preset and what is changed in it."""

    name: str
    """How it is called in the report."""
    preset: str
    """`family:size`; the size is where the search for a matching one begins."""
    overrides: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Arguments of the preset. A size among them (layers, width, heads, hidden) is not searched."""
    window: int | None = None
    """Bytes of context that it is trained and read at, where that is not the study's. Its batch follows, so that all
    learn from as many bytes in an update."""
    along: tuple[str, float] | None = None
    """A quantity in which contenders of one preset differ, such as memory slots or context, and how much of it this one
    has: the report sets their losses against it, as a law if there are enough of them."""

    def __post_init__(self) -> None:
        _check_name("architecture.name", self.name)
        remedy = "must be above 0: a law is one of powers"
        check(self.along is None or self.along[1] > 0, "architecture.along", self.along, remedy)
        everlong.config(self.preset, **self.overrides)


class Budget(Config):
    """How long every model is trained."""

    def __post_init__(self) -> None:
        raise NotImplementedError

    @property
    def label(self) -> str:
        """How it is called in the report."""
        raise NotImplementedError

    def steps(self, bytes_per_step: int, flops_per_byte: float) -> int:
        """Updates that come closest to the budget."""
        raise NotImplementedError


class TrainingBytes(Budget):
    """All models learn from as many bytes."""

    bytes: int

    def __post_init__(self) -> None:
        check(self.bytes >= 1, "budget.bytes", self.bytes, "must be at least 1; a megabyte is little")

    @property
    def label(self) -> str:
        return f"{self.bytes:,} bytes"

    def steps(self, bytes_per_step: int, flops_per_byte: float) -> int:
        return round(self.bytes / bytes_per_step)


class TrainingFlops(Budget):
    """All models take as many training FLOPs: one that needs more for a byte learns from fewer bytes."""

    flops: float

    def __post_init__(self) -> None:
        check(self.flops > 0, "budget.flops", self.flops, "must be above 0; 1e13 is a minute or two of two cores")

    @property
    def label(self) -> str:
        return f"{self.flops:g} FLOPs"

    def steps(self, bytes_per_step: int, flops_per_byte: float) -> int:
        return round(self.flops / (bytes_per_step * flops_per_byte))


class Study(Config):
    """A comparison; see the top of this file."""

    name: str
    architectures: tuple[Architecture, ...]
    """The first is the reference: where a matching names no target, the others come to its own size."""
    matching: tuple[Matching, ...]
    """In what the models agree; each makes a comparison of its own."""
    budget: Budget
    learning_rates: tuple[float, ...]
    """Every architecture tries all of them, on `sweep_seed`, and takes the one with the lowest loss on the selection
    half of the held-out documents; one alone is taken untried."""
    seeds: tuple[int, ...]
    """Of the models that are reported. They are paired: equal seeds see the same bytes in the same order."""
    training: Trainer.Config
    """How all are trained; its `steps`, `seed` and learning rate are set cell by cell."""
    sweep_seed: int = 1000
    """None of `seeds`, so that choosing flatters no reported number."""
    more_budgets: tuple[Budget, ...] = ()
    """Others, at each of which every size is tuned and trained anew; each makes a comparison of its own."""
    data: DataConfig = DataConfig()
    tokenizer: str | None = None
    """A byte-level tokenizer.json whose tokens all models read; `None`: bytes. With one, windows, budgets, lengths of
    documents, FLOPs and states that are told by the byte are by the token; bits per byte, and bytes seen, are true."""
    held_out: HeldOut = HeldOut()
    metrics: tuple[str, ...] = ("bits_per_byte", "by_position")
    questions: Questions | None = None
    """How the suites among the metrics ask; `None` where there are none."""
    state_length: int | None = None
    """Bytes after which the state is measured; `None`: the training window."""
    at_once: int = 1
    """Cells that are trained side by side; each gets its share of the cores."""

    def __post_init__(self) -> None:
        _check_name("study.name", self.name)
        for field in ("architectures", "matching", "learning_rates"):
            check(len(getattr(self, field)) >= 1, f"study.{field}", getattr(self, field), "must name at least one")
        self._check_distinct("architectures", [architecture.name for architecture in self.architectures])
        for window in (own.window for own in self.architectures if own.window is not None):
            remedy = f"must be at least 1 and divide the {self.bytes_per_step} bytes of an update"
            check(window >= 1 and self.bytes_per_step % window == 0, "architecture.window", window, remedy)
        self._check_distinct("matching", [matching.label for matching in self.matching])
        self._check_distinct("more_budgets", [budget.label for budget in self.budgets])
        self._check_distinct("learning_rates", list(self.learning_rates))
        self._check_distinct("seeds", list(self.seeds))
        remedy = f"a comparison needs at least {LEAST_SEEDS} seeds, or it cannot tell a difference from chance"
        check(len(self.seeds) >= LEAST_SEEDS, "study.seeds", self.seeds, remedy)
        check(self.sweep_seed not in self.seeds, "study.sweep_seed", self.sweep_seed, "must be none of the seeds")
        check("bits_per_byte" in self.metrics, "study.metrics", self.metrics, "must include bits_per_byte")
        for metric in self.metrics:
            check(metric in NAMES, "study.metrics", metric, suggest(metric, NAMES))
        remedy = "must tell the lengths for suites and speed among the metrics, and is for nothing else"
        asks = needs_questions(self.metrics)
        check((self.questions is not None) == asks, "study.questions", self.questions, remedy)
        if self.questions is not None:
            self.questions.check_room(self.metrics, self.codec)
        check(self.at_once >= 1, "study.at_once", self.at_once, "must be at least 1")

    def _check_distinct(self, field: str, values: list[Any]) -> None:
        check(len(set(values)) == len(values), f"study.{field}", values, "must differ from one another")

    def training_of(self, architecture: Architecture) -> Trainer.Config:
        """How an architecture is trained, but for steps, seed and learning rate."""
        window = self.training.window if architecture.window is None else architecture.window
        return self.training.replace(window=window, batch=self.bytes_per_step // window)

    @property
    def codec(self) -> Codec:
        """What makes ids of the data.

        Raises:
            DataError: the tokenizer cannot be used.
        """
        return codec_of(self.tokenizer)

    def arguments_of(self, architecture: Architecture) -> dict[str, Any]:
        """What is changed in an architecture's preset, the vocabulary of a tokenizer included."""
        read = {} if self.tokenizer is None else {"vocabulary": self.codec.vocabulary}
        return {**read, **architecture.overrides}

    @property
    def tried(self) -> tuple[float, ...]:
        """The learning rates that there is something to choose between."""
        return self.learning_rates if len(self.learning_rates) > 1 else ()

    @property
    def bytes_per_step(self) -> int:
        """What every architecture learns from in an update."""
        return self.training.window * self.training.batch

    @property
    def budgets(self) -> tuple[Budget, ...]:
        """All of them."""
        return self.budget, *self.more_budgets

    @property
    def length(self) -> int:
        """Bytes after which the state is measured."""
        return self.training.window if self.state_length is None else self.state_length


def load_study(path: str | Path) -> Study:
    """The study that a Python file defines, which is run.

    Raises:
        ConfigError: there is no such file, it fails, or its `study()` returns no `Study`.
    """
    path = Path(path).expanduser()
    check(path.is_file() and path.suffix == ".py", "study", str(path), "must be a Python file, as in studies/")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None  # its name ends in .py
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        study = module.study()
    except everlong.EverlongError:
        raise
    except Exception as error:  # whatever the user's own code leads to
        remedy = f"fails with {type(error).__name__}: {error}; it must define study() -> Study"
        raise ConfigError("study", str(path), remedy) from error
    check(isinstance(study, Study), "study", str(path), f"study() must return a Study, not {type(study).__name__}")
    return study


def _check_name(field: str, name: str) -> None:
    check(_NAME.fullmatch(name) is not None, field, name, "may hold letters, digits, _ and . only: it names folders")
