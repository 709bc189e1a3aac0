"""The same model, with the same weights, for texts longer than it was trained on (`everlong/sequence/blockwise.py`)."""

from __future__ import annotations

import dataclasses
from typing import Any

from everlong.core.config import Config, check
from everlong.core.errors import ConfigError
from everlong.model.language_model import LanguageModel
from everlong.sequence.attention import Attention, WindowAttention
from everlong.sequence.blockwise import BlockwiseAttention
from everlong.sequence.dilated import DilatedAttention
from everlong.sequence.sparse import SparseAttention


def blockwise(config: LanguageModel.Config, block: int) -> LanguageModel.Config:
    """The configuration with full attention in blocks, and without a context limit; state dicts fit both.

    Windows and segments stay as they are, since they look no further back anyhow.

    Args:
        block: l, positions a block; half of the trained length, so that no distance is new.

    Raises:
        ConfigError: a window or a segment reaches beyond two blocks, or the fixed sparse pattern, whose summaries do.
    """
    return _replaced(config, block).replace(context_limit=None)


def _replaced(value: Any, block: int) -> Any:
    if isinstance(value, tuple):
        return tuple(_replaced(item, block) for item in value)
    if not isinstance(value, Config):
        return value
    if isinstance(value, WindowAttention.Config):
        _check_reach("window", value.window, block)
    elif isinstance(value, DilatedAttention.Config):
        check(not value.sinks, "sinks", value.sinks, "are seen from everywhere; no blocks can bound them")
        _check_reach("segment_lengths", value.segment_lengths[-1] * (1 + value.look_back), block)
    elif isinstance(value, SparseAttention.Config):
        raise ConfigError("mixer", value.kind, "has summaries that are seen from everywhere; no blocks can bound it")
    fields = {field.name: _replaced(getattr(value, field.name), block) for field in dataclasses.fields(value)}
    return (
        BlockwiseAttention.Config(**fields, block=block) if type(value) is Attention.Config else type(value)(**fields)
    )


def _check_reach(field: str, reach: int, block: int) -> None:
    """A query that sees `reach` positions, itself included, may stand at the first of a block."""
    check(reach <= block + 1, field, reach, f"reaches beyond two blocks; give a block of at least {reach - 1}")
