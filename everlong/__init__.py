"""Everlong: language models past the Transformer's quadratic wall.

import everlong
model = everlong.build("window:tiny")
output = model(ids)                      # .logits, .state, .auxiliary
output = model(more_ids, output.state)   # the same stream, continued

Names are loaded when they are first used, so that the command line answers before PyTorch is there.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from everlong.core.config import Config, config_from_dict
    from everlong.core.errors import EverlongError
    from everlong.core.part import Part
    from everlong.core.span import Span
    from everlong.core.state import State
    from everlong.model.language_model import LanguageModel, Output, StreamState
    from everlong.model.presets import build, config, presets

__version__ = "0.1.0"
__all__ = [
    "Config",
    "EverlongError",
    "LanguageModel",
    "Output",
    "Part",
    "Span",
    "State",
    "StreamState",
    "build",
    "config",
    "config_from_dict",
    "presets",
]

_HOMES = {
    "Config": "core.config",
    "EverlongError": "core.errors",
    "LanguageModel": "model.language_model",
    "Output": "model.language_model",
    "Part": "core.part",
    "Span": "core.span",
    "State": "core.state",
    "StreamState": "model.language_model",
    "build": "model.presets",
    "config": "model.presets",
    "config_from_dict": "core.config",
    "presets": "model.presets",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'everlong' has no attribute {name!r}")
    import_module("everlong.model.presets")  # which knows every part, so that any saved configuration can be read
    return getattr(import_module(f"everlong.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
