"""What `everlong evaluate RUN --suite ...` does: measure suites, show them, write and draw them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from everlong.cli.tables import memory, say, show, with_error
from everlong.core.config import check, suggest
from everlong.core.errors import ConfigError
from everlong.data import TokenStore
from everlong.evaluate import figure, plots
from everlong.evaluate.output import write_json
from everlong.evaluate.suites import (
    SUITES,
    Score,
    by_depth,
    check_length,
    measure_suite,
    prompt_length,
    robustness,
    selected,
    speed,
)
from everlong.evaluate.suites import examples as generated
from everlong.train import Run


class Asked(NamedTuple):
    """What is to be measured, and how."""

    names: tuple[str, ...]
    lengths: tuple[int, ...]
    examples: int
    seed: int


def asked_for(suite: str, lengths: Sequence[int], examples: int, seed: int) -> Asked:
    """Reads the options.

    Raises:
        ConfigError: an unknown suite, or a number that is out of range.
    """
    names = tuple(dict.fromkeys(name.strip() for name in suite.split(",") if name.strip()))
    known = (*SUITES, *MEASURED)
    for name in names:
        if name not in known:
            raise ConfigError("suite", name, suggest(name, known))
    check(bool(names), "suite", suite, "must name suites, separated by commas")
    check(bool(lengths) and min(lengths) >= 1, "lengths", tuple(lengths), "must be at least 1 each, and at least one")
    check(examples >= 1, "examples", examples, "must be at least 1")
    check(seed >= 0, "seed", seed, "must be 0 or more")
    return Asked(names, tuple(lengths), examples, seed)


def measure(run: Run, asked: Asked, store: Callable[[], TokenStore], json: Path | None, plot: Path | None) -> None:
    """Measures every suite at every length, and shows the results.

    Args:
        store: opens the documents; called only if a suite needs them.

    Raises:
        ContextError: a length is beyond the model's `context_limit`, before anything is run; or too short for a suite.
        DataError: the documents are too few or too short.
    """
    known = selected([name for name in asked.names if name in SUITES])
    for length in asked.lengths:
        check_length(run.model, length)
        for suite in known.values():  # which finds lengths that are too short
            generated(suite, run.codec, length=length, count=asked.examples, seed=asked.seed)
    results = {name: MEASURED[name](run, asked, store) for name in asked.names if name in MEASURED}
    scores = [
        measure_suite(run.model, run.codec, suite, name=name, length=length, count=asked.examples, seed=asked.seed)
        for name, suite in known.items()
        for length in asked.lengths
    ]
    results["suites"] = [asdict(score) | {"by_depth": by_depth(score.outcomes)} for score in scores]
    if scores:
        show(("suite", ">tokens", ">exact", ">95 %", ">contained", ">taught", ">chance"), map(_row, scores))
    if json:
        write_json(json, {"run": str(run.path), "step": run.step, **results})
    if plot:
        figure.save(plots.suites(scores), plot)


def check_plot(asked: Asked, plot: Path | None) -> None:
    """Raises `ConfigError` if a plot is asked for that cannot be drawn."""
    if plot:
        figure.require(plot)
        drawn = any(name in SUITES for name in asked.names)
        check(drawn, "plot", str(plot), "draws generated suites only: name one of them too, or leave it out")


def _row(score: Score) -> tuple[str, ...]:
    low, high = score.interval
    shares = f"{score.exact:.1%}", f"{low:.0%} - {high:.0%}", f"{score.contained:.1%}", f"{score.taught:.1%}"
    return score.suite, f"{score.length:,}", *shares, f"{score.chance:.2g}"


def _prompt_length(run: Run, asked: Asked, store: Callable[[], TokenStore]) -> Any:
    points = prompt_length(run.model, store(), asked.lengths, count=asked.examples)
    rows = [
        (f"{p.length:,}", f"{p.documents:,}", f"{p.bytes:,}", with_error(p.bits_per_byte, p.standard_error))
        for p in points
    ]
    show((">prompt tokens", ">documents", ">bytes", ">bits per byte"), rows)
    say()
    return [asdict(point) for point in points]


def _robustness(run: Run, asked: Asked, store: Callable[[], TokenStore]) -> Any:
    result = robustness(run.model, store(), count=asked.examples, seed=asked.seed)
    low, high = result.interval
    rows = [("none", f"{result.accuracy:.1%}, from {low:.0%} to {high:.0%}")]
    rows += [(name, f"{value:.1%}") for name, value in result.perturbed.items()]
    rows += [("chance", f"{result.chance:.1%}")]
    score = "none: it is not surely above chance" if result.score is None else f"{result.score:.1f}"
    show(("perturbation", ">accuracy"), [*rows, ("robustness score", score)])
    say()
    return asdict(result)


def _speed(run: Run, asked: Asked, store: Callable[[], TokenStore]) -> Any:
    found = speed(run.model, asked.lengths, seed=asked.seed)
    rows = [(f"{s.length:,}", f"{s.reading:,.0f}", f"{s.decoding:,.0f}", memory(s.state_bytes)) for s in found]
    show((">context", ">read tokens/s", ">decoded tokens/s", ">state"), rows)
    say()
    return [asdict(one) for one in found]


MEASURED: dict[str, Callable[[Run, Asked, Callable[[], TokenStore]], Any]] = {
    "prompt-length": _prompt_length,
    "robustness": _robustness,
    "speed": _speed,
}
"""What is measured on documents or on random context, beside the generated suites."""
