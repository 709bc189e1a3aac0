"""The suites by name, as `everlong evaluate --suite` knows them."""

from __future__ import annotations

from collections.abc import Sequence

from everlong.core.config import suggest
from everlong.core.errors import ConfigError
from everlong.evaluate.suites.characters import TASKS, Characters
from everlong.evaluate.suites.copying import Copying, Induction, SelectiveCopying
from everlong.evaluate.suites.counting import CommonWords, FrequentWords
from everlong.evaluate.suites.example import Suite
from everlong.evaluate.suites.needle import Needle
from everlong.evaluate.suites.passkey import Passkey
from everlong.evaluate.suites.recall import Recall
from everlong.evaluate.suites.tracking import Tracking

SUITES: dict[str, Suite] = {
    "passkey": Passkey(),
    "passkey-5": Passkey(least=10_000, most=99_999),
    "needle": Needle(),
    "needle-keys": Needle(keys=4),
    "needle-values": Needle(values=4),
    "needle-queries": Needle(keys=4, queries=4),
    "needle-among-needles": Needle(haystack="needles"),
    "needle-uuids": Needle(kind="uuids", haystack="needles"),
    "tracking": Tracking(),
    "tracking-chains": Tracking(chains=3),
    "common-words": CommonWords(),
    "common-words-30": CommonWords(often=30, rarely=3),
    "frequent-words": FrequentWords(),
    "recall": Recall(),
    "copying": Copying(),
    "selective-copying": SelectiveCopying(),
    "induction": Induction(),
    **{name: Characters(task=name) for name in TASKS},
}
"""Suites of examples that are generated from a seed."""


def suite(name: str) -> Suite:
    """A suite by its name. Raises `ConfigError`, with the closest name, if there is none."""
    if name not in SUITES:
        raise ConfigError("suite", name, suggest(name, SUITES))
    return SUITES[name]


def selected(names: Sequence[str]) -> dict[str, Suite]:
    """Suites by their names. Raises `ConfigError` as `suite` does."""
    return {name: suite(name) for name in names}
