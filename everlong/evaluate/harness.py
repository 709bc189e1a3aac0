"""Everlong's models in lm-evaluation-harness (extra `eval`), with tasks of one's own.

results = harness.evaluate(run.model, run.codec, ["my_task"], folder="tasks/")

A context and its continuation are encoded each on its own, behind BOS and with nothing appended: no token of the
continuation is shared by all choices, which would make them tie and the first of them always right. What is beyond
the model's `context_limit` is refused, never cut.

Legend: B batch rows, T positions, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, cast

import numpy as np

from everlong.core.config import check
from everlong.core.errors import ConfigError, ContextError
from everlong.data import Codec
from everlong.data.progress import progress
from everlong.generate import Sampling, Totals, generate, score
from everlong.generate.prompts import PIECE, Ids, right_padded
from everlong.generate.scoring import surprisal
from everlong.generate.stream import Stream, check_codec
from everlong.generate.text import as_bytes
from everlong.model.language_model import LanguageModel

try:
    from lm_eval.api.instance import Instance
    from lm_eval.api.model import LM
    from lm_eval.evaluator import simple_evaluate
    from lm_eval.tasks import TaskManager
except ImportError as error:
    raise ConfigError("harness", "lm_eval", "needs the extra `eval`: pip install everlong[eval]") from error

MOST_NEW = 256
"""Tokens that a task's answer may have if it does not say."""

_KNOWN = ("until", "max_gen_toks", "do_sample", "temperature", "top_k", "top_p")


class HarnessModel(LM):
    """A model as the harness asks it.

    Args:
        batch: requests that are read side by side; it changes speed and memory, not the results.

    Raises:
        ConfigError: the codec is not the model's, or `batch` is below 1.
    """

    def __init__(self, model: LanguageModel, codec: Codec, *, batch: int = 16) -> None:
        super().__init__()
        check_codec(model, codec)
        check(batch >= 1, "batch", batch, "must be at least 1")
        self.model, self.codec, self.batch = model, codec, batch

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        """Of every (context, continuation): log-probability in nats, and whether each token is likeliest.

        Raises:
            ContextError: one is longer than the model's `context_limit`; before any is read.
        """
        texts = [cast("tuple[str, str]", request.args) for request in requests]
        pairs = [(self._encoded(context), self._encoded(continuation)) for context, continuation in texts]
        for context_T, continuation_T in pairs:
            self._check_limit(len(context_T) + len(continuation_T))
        found: dict[int, tuple[float, bool]] = {}
        order = sorted(range(len(pairs)), key=lambda i: sum(map(len, pairs[i])))
        with progress("harness: choices", len(pairs)) as advance:
            for rows in (order[i : i + self.batch] for i in range(0, len(order), self.batch)):
                ids = [np.concatenate(pairs[i]) for i in rows]
                for i, (bits_T, likeliest_T) in zip(rows, self._scored(ids), strict=True):
                    start = len(pairs[i][0])
                    found[i] = -float(bits_T[start:].sum()) * math.log(2), bool(likeliest_T[start:].all())
                advance(float(len(rows)))
        return [found[i] for i in range(len(pairs))]

    def loglikelihood_rolling(self, requests: list[Instance]) -> list[float]:
        """Log-probability of whole texts, in nats; beyond `context_limit` the model begins anew, without a past."""
        found = []
        with progress("harness: texts", len(requests)) as advance:
            for request in requests:
                totals = Totals()
                for piece in score(self.model, self.codec, as_bytes(request.args[0], "text")):
                    totals.add(piece)
                found.append(-totals.bits * math.log(2))
                advance(1.0)
        return found

    def generate_until(self, requests: list[Instance]) -> list[str]:
        """What follows every context, up to the task's own stop strings.

        Raises:
            ConfigError: a task asks for a way of sampling that is not known here.
            ContextError: context and answer are longer than the model's `context_limit`.
        """
        found: list[str] = []
        with progress("harness: answers", len(requests)) as advance:
            for settings, group in groupby(requests, key=lambda request: cast("tuple[str, Any]", request.args)[1]):
                contexts = [request.args[0] for request in group]
                for start in range(0, len(contexts), self.batch):
                    rows = contexts[start : start + self.batch]
                    found += self._generated(rows, settings)
                    advance(float(len(rows)))
        return found

    def _encoded(self, text: str) -> np.ndarray:
        return self.codec.encode(as_bytes(text, "text"))

    def _check_limit(self, tokens: int) -> None:
        limit = self.model.config.context_limit
        if limit is not None and tokens > limit:
            remedy = f"exceed this model's context_limit, {limit}: take shorter tasks; nothing is cut here"
            raise ContextError("request", f"{tokens} tokens", remedy)

    def _scored(self, ids: Ids) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Of every row: bits of each token, and whether it was the likeliest. What fills a row changes nothing."""
        ids_BT, _ = right_padded(ids, self.codec.pad, next(self.model.parameters()).device)
        stream = Stream(self.model, self.codec.bos, rows=len(ids))
        bits, likeliest = [np.empty((len(ids), 0))], [np.empty((len(ids), 0), dtype=bool)]
        start = 0
        while start < ids_BT.shape[1]:
            piece_BT = ids_BT[:, start : start + min(PIECE, stream.room)]
            logits_BTV = stream.follow(piece_BT)
            bits.append(surprisal(logits_BTV, piece_BT))
            likeliest.append((logits_BTV.argmax(-1) == piece_BT).cpu().numpy())
            start += piece_BT.shape[1]
        bits_BT, likeliest_BT = np.concatenate(bits, axis=1), np.concatenate(likeliest, axis=1)
        return (
            (bits_T[: len(row)], best_T[: len(row)])
            for bits_T, best_T, row in zip(bits_BT, likeliest_BT, ids, strict=True)
        )

    def _generated(self, contexts: Sequence[str], settings: Mapping[str, Any]) -> list[str]:
        for name, value in settings.items():
            check(name in _KNOWN, f"generation_kwargs.{name}", value, f"is not known here: {', '.join(_KNOWN)}")
        until = settings.get("until", [])
        stop = [until] if isinstance(until, str) else [text for text in until if text]
        texts = [""] * len(contexts)
        steps = generate(
            self.model,
            self.codec,
            contexts,
            max_tokens=settings.get("max_gen_toks", MOST_NEW),
            sampling=_sampling(settings),
            stop=stop,
        )
        for step in steps:
            texts[step.row] += step.text
        return texts


def evaluate(
    model: LanguageModel, codec: Codec, tasks: Sequence[str], *, folder: str | Path, batch: int = 16, **options: Any
) -> dict[str, Any]:
    """Runs the harness on tasks that a folder describes in YAML.

    Args:
        folder: where the tasks lie; the harness's own are not looked at, since nearly all download data.
        options: of `lm_eval.simple_evaluate`, such as `limit`.

    Returns:
        The harness's results.

    Raises:
        ConfigError: a task is not in the folder, the codec is not the model's, or `batch` is below 1.
        ContextError: a request is longer than the model's `context_limit`.
    """
    manager = TaskManager(include_path=str(folder), include_defaults=False)
    for task in tasks:
        check(task in manager.all_tasks, "task", task, f"is not in {folder}: there is {', '.join(manager.all_tasks)}")
    asked = HarnessModel(model, codec, batch=batch)
    results = simple_evaluate(asked, tasks=list(tasks), task_manager=manager, **options)
    assert results is not None  # as it is on other ranks than the first
    return dict(results)


def _sampling(settings: Mapping[str, Any]) -> Sampling:
    """Greedy, unless a task asks for something else."""
    if not settings.get("do_sample", False):
        return Sampling(temperature=0.0)
    given = {name: settings[name] for name in ("temperature", "top_k", "top_p") if settings.get(name) is not None}
    return Sampling(**given)
