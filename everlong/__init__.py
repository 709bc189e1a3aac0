"""Everlong: language models past the Transformer's quadratic wall.

import everlong
model = everlong.build("window:tiny")
output = model(ids)                      # .logits, .state, .auxiliary
output = model(more_ids, output.state)   # the same stream, continued
"""

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
