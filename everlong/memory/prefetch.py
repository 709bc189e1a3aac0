"""Asking for rows ahead: which rows a batch looks up follows from its ids, so they can be read before it is its turn.

Only the reading is done ahead (see `storage.py`), and so nothing can go stale. Where the guess is wrong, as for the
n-grams of a row that continues an earlier batch, or inside a part that sees other ids, a row is read when it is needed.
"""

from __future__ import annotations

from concurrent.futures import Future

from torch import nn

from everlong.core.span import Span
from everlong.memory.engram import Engram
from everlong.memory.over_encoding import OverEncoding
from everlong.memory.storage import is_mapped, warm


def prefetch(model: nn.Module, span: Span) -> list[Future[None]]:
    """Begins to read the rows that a stretch of the stream looks up, of the model's tables that live in files.

    Returns:
        What can be waited for, though nobody needs to.
    """
    memories = (module for module in model.modules() if isinstance(module, Engram | OverEncoding))
    filed = (memory for memory in memories if is_mapped(memory.table.rows))
    return [read for memory in filed for read in warm(memory.table.rows, memory.hash(span)[0].flatten())]
