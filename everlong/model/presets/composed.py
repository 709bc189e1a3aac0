"""Preset `everlong`: what each of the five ways does best, in one model whose state is bounded.

The axes of the design, each with one part: Mamba-2 for the sequence, with attention to a window between; n-gram tables
and n-gram heads for memory; experts, if asked for, for width. What each is worth is measured in
`studies/composition.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

from everlong.core.config import check
from everlong.model.language_model import LanguageModel
from everlong.model.presets.engram import stack_of, with_memory, with_ngram_heads
from everlong.model.presets.hybrid import hybrid
from everlong.model.presets.moe import BIAS, with_experts
from everlong.model.presets.registry import extending, family

SIZES = {
    "nano": {"layers": 4, "width": 96, "heads": 3, "state_size": 64},
    "tiny": {"layers": 4, "width": 192, "heads": 3, "state_size": 64},
    "small": {"layers": 8, "width": 512, "heads": 8},
    "base": {"layers": 16, "width": 768, "heads": 12},
}
"""The common sizes: beside the tables, about as many parameters as those of other families."""


@family(**SIZES)
@extending(hybrid, pattern="M3T", window=256)
def everlong(
    plain: LanguageModel.Config,
    *,
    memory_layers: Sequence[int] | None = None,
    orders: Sequence[int] = (2, 3, 4, 5, 6, 8, 12),
    rows: int = 2**15,
    row_width: int = 16,
    ngram_heads: Sequence[int] = (1, 2, 3, 4, 6, 8, 12, 16),
    ngram_window: int = 4096,
    experts: int = 0,
    active: int = 3,
) -> LanguageModel.Config:
    """Layers of Mamba-2 and attention to the last `window` positions, as in `hybrid`; before all of them n-gram heads,
    before some n-gram memory, as in `engram`.

    Args:
        memory_layers: before which layers; `None`: the first and the middle one.
        rows: of a table, at least.
        ngram_window: how many positions back n-gram heads look.
        experts: in place of the feed-forward of all blocks but the first, `active` of them and a shared one at a time,
            which are as large together; 0: none.
    """
    check(experts >= 0, "experts", experts, "must be 0 or more")
    if memory_layers is None:
        memory_layers = sorted({0, len(stack_of(plain.body).blocks) // 2})
    found = with_memory(plain, memory_layers=memory_layers, orders=orders, rows=rows, row_width=row_width)
    found = with_ngram_heads(found, orders=ngram_heads, window=ngram_window)
    if not experts:
        return found
    return with_experts(found, experts=experts, active=active, shared=1, dense=1, score="sigmoid", balance=BIAS)
