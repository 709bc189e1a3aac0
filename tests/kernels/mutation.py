"""Mutants of a source file: one place of it changed, and the rest as it is."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from types import ModuleType

_number = itertools.count()


def mutated(module: ModuleType, old: str, new: str) -> ModuleType:
    """The module with `old`, which must stand in its source exactly once, replaced by `new`."""
    assert module.__file__ is not None
    source = Path(module.__file__).read_text(encoding="utf-8")
    assert source.count(old) == 1, f"{old!r} stands {source.count(old)} times in {module.__file__}"
    namespace = f"mutant{next(_number)}"  # operators are registered by name, once
    mutant = sys.modules[namespace] = ModuleType(namespace)  # where dataclasses look for their module
    exec(compile(source.replace(old, new).replace('"everlong::', f'"{namespace}::'), namespace, "exec"), vars(mutant))
    return mutant
