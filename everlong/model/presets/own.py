"""Parts and presets of one's own: Python files that every command knows once an environment variable names them.

    export EVERLONG_PARTS=mixer.py            # several are separated as in PATH
    everlong train mine:nano

They are run where a process first needs the presets, so those that a study starts know them too. Nothing that a
checkpoint says is ever run.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

from everlong.core.config import check
from everlong.core.errors import ConfigError, EverlongError

VARIABLE = "EVERLONG_PARTS"


def load_own_parts() -> None:
    """Runs the files that the environment names.

    Raises:
        ConfigError: as `load_parts` does.
    """
    for path in filter(None, os.environ.get(VARIABLE, "").split(os.pathsep)):
        load_parts(path)


def load_parts(path: str | Path) -> None:
    """Runs a Python file, once a process. Its preset families, and its configurations under the file's name, are then
    known.

    Raises:
        ConfigError: there is no such file, another module has its name, or it fails.
    """
    path = Path(path).expanduser().resolve()
    check(
        path.is_file() and path.suffix == ".py", VARIABLE, str(path), f"must name Python files, split at {os.pathsep!r}"
    )
    known = sys.modules.get(path.stem)
    if known is not None and getattr(known, "__file__", None) == str(path):
        return
    taken = known is not None or path.stem in sys.stdlib_module_names
    check(not taken, VARIABLE, str(path), f"another module is called {path.stem}: rename the file")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None  # its name ends in .py
    assert spec.loader is not None
    module = sys.modules[path.stem] = importlib.util.module_from_spec(spec)  # where types of fields are looked up
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever the own code leads to
        del sys.modules[path.stem]
        if isinstance(error, EverlongError):
            raise
        raise ConfigError(VARIABLE, str(path), f"fails with {type(error).__name__}: {error}") from error
