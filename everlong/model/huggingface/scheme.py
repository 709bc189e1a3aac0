"""What a conversion is: which configuration stands for which, and which tensor is called what.

A conversion only renames. So what it cannot express it refuses, by naming the field.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from everlong.core.errors import CheckpointError
from everlong.model.language_model import LanguageModel

Settings = dict[str, Any]
"""The fields of a checkpoint's `config.json`."""


@dataclass(frozen=True)
class Scheme:
    """One architecture of transformers."""

    kind: str
    """Its `model_type`."""
    read: Callable[[Settings], LanguageModel.Config]
    """The configuration that computes the same; `CheckpointError` if there is none."""
    write: Callable[[LanguageModel.Config], Settings | None]
    """The fields that describe a configuration; `None` if it is of another architecture."""
    names: Callable[[LanguageModel.Config], dict[str, str]]
    """Their name of every parameter, by ours. Parameters with one name are the rows of one tensor, in order."""


def rows(names: Mapping[str, str]) -> dict[str, list[str]]:
    """Our parameters by their tensor."""
    found: dict[str, list[str]] = {}
    for ours, theirs in names.items():
        found.setdefault(theirs, []).append(ours)
    return found


def required(settings: Mapping[str, Any], *fields: str) -> list[Any]:
    """The values of fields that a checkpoint must have."""
    for field in fields:
        if settings.get(field) is None:
            raise CheckpointError(f"config.json: {field}", None, "is missing; save the checkpoint with transformers 5")
    return [settings[field] for field in fields]


def refuse_unless(settings: Mapping[str, Any], **expected: Any) -> None:
    """Raises CheckpointError if a field, where it is given, has a value that Everlong's part cannot express."""
    for field, value in expected.items():
        found = settings.get(field, value)
        if found != value:
            raise CheckpointError(f"config.json: {field}", found, f"cannot be expressed; only {value!r} can")
