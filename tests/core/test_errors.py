"""Errors carry the field, the value and the remedy, also across processes."""

from __future__ import annotations

import copy

import pytest

from everlong.core import errors
from everlong.core.errors import EverlongError

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, EverlongError)]


@pytest.mark.parametrize("kind", KINDS)
def test_parts(kind: type[EverlongError]) -> None:
    error = kind("heads", 5, "must divide width")
    assert str(error) == "heads = 5: must divide width"
    assert (error.field, error.value, error.remedy) == ("heads", 5, "must divide width")
    again = copy.copy(error)  # by the same protocol that sends it to another process
    assert type(again) is kind
    assert (again.field, again.value, again.remedy, str(again)) == ("heads", 5, "must divide width", str(error))


def test_kinds() -> None:
    """A caller may catch all of them, or the built-in kind that fits."""
    assert len(KINDS) >= 7
    assert issubclass(errors.ConfigError, ValueError)
    assert issubclass(errors.CheckpointError, RuntimeError)
