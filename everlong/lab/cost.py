"""What a model costs, by the library's own accounting, from its configuration alone.

Parameters are counted twice, since the literature does not agree: without embedding and head (Kaplan et al. 2020,
arXiv 2001.08361, section 2.1), and all of them (Hoffmann et al. 2022, arXiv 2203.15556). A training step counts three
forwards; FLOPs per byte are the mean over a window.

A cost that depends on the data is not known from a configuration, and counts at its nominal rate here: `Cell.work`
says how many FLOPs a trained cell has taken.
"""

from __future__ import annotations

import hashlib
import json
import statistics
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import nn

from everlong.core.accounting import parameter_count
from everlong.data import Codec, Corpus, Loader
from everlong.evaluate.output import write_json
from everlong.model.language_model import LanguageModel
from everlong.train import DataConfig, Trainer
from everlong.train.allocator import keep_freed_memory

WARM_UP, TIMED = 2, 6
"""Updates that are made to find out how long one takes."""
ENOUGH = 1.0
"""Seconds of timed updates after which two of them suffice."""


@dataclass(frozen=True)
class Cost:
    """The costs of a model of bytes."""

    parameters: int
    """All of them (Chinchilla's convention)."""
    non_embedding: int
    """Without embedding and head (Kaplan's convention)."""
    flops_per_byte: float
    """In training: three times the forward's mean over a window."""
    state_bytes: int
    """Of one row, after as many bytes as the scales say."""


class Scales:
    """Weighs models; nothing is weighed twice.

    Args:
        training: how they will be trained.
        state_length: bytes after which the state is measured.
        data: what they are timed on.
        codec: what makes ids of it.
        threads: with which they are timed.
        timings: where measured times are kept, so that a second look gives the same; `None`: nowhere.
    """

    def __init__(
        self,
        training: Trainer.Config,
        data: DataConfig,
        *,
        codec: Codec,
        state_length: int,
        threads: int,
        timings: Path | None = None,
    ) -> None:
        self.training, self.data, self.codec = training.replace(steps=WARM_UP + TIMED), data, codec
        self.state_length, self.threads, self.timings = state_length, threads, timings
        self._costs: dict[LanguageModel.Config, Cost] = {}
        self._seconds: dict[str, float] = {}
        if timings is not None and timings.is_file():
            self._seconds = json.loads(timings.read_text(encoding="utf-8"))

    def at(self, training: Trainer.Config) -> Scales:
        """The same scales for models that are trained in another way. All times are kept together."""
        other = copy(self)
        other.training, other._costs = training.replace(steps=WARM_UP + TIMED), {}
        return other

    def cost(self, config: LanguageModel.Config) -> Cost:
        """The costs of a model, for which no weight is allocated."""
        if config not in self._costs:
            self._costs[config] = self._weigh(config)
        return self._costs[config]

    def seconds(self, config: LanguageModel.Config) -> float:
        """Median time of one update, on this machine."""
        plain = {"model": config.to_dict(), "training": self.training.to_dict(), "threads": self.threads}
        key = hashlib.sha256(json.dumps(plain).encode()).hexdigest()[:32]
        if key not in self._seconds:
            self._seconds[key] = self._time(config)
            if self.timings is not None:
                write_json(self.timings, self._seconds)
        return self._seconds[key]

    @cached_property
    def _corpus(self) -> Corpus:
        return self.data.open(self.codec)

    def _weigh(self, config: LanguageModel.Config) -> Cost:
        with torch.device("meta"):
            model = config.build()
        window, parameters = self.training.window, parameter_count(model)
        outside = parameter_count(nn.ModuleList([model.embedding, model.head]))  # tied ones once
        flops = 3 * model.flops(window) / window
        return Cost(parameters, parameters - outside, flops, model.state_bytes(self.state_length))

    def _time(self, config: LanguageModel.Config) -> float:
        keep_freed_memory()
        training, store = self.training, self._corpus.train
        loader = Loader(store, window=training.window, batch=training.batch, seed=0, carry=training.carry)
        trainer = Trainer(training, config.build(), loader)
        usual = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        try:
            for _ in range(WARM_UP):
                trainer.advance()
            taken: list[float] = []
            while len(taken) < TIMED and (len(taken) < 2 or sum(taken) < ENOUGH):
                taken.append(trainer.advance().compute_seconds)
        finally:
            torch.set_num_threads(usual)
        return statistics.median(taken)
