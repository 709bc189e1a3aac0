"""Hierarchies with n-gram memory: families of chunks that begin at spaces, or are learnt, with hashed n-gram tables and
n-gram heads at the level of bytes around them."""

from __future__ import annotations

from typing import Any

from everlong.model.language_model import LanguageModel
from everlong.model.presets.engram import with_memory, with_ngram_heads
from everlong.model.presets.hnet import hnet, spacebyte
from everlong.model.presets.registry import extending, family


def remembering(called: str, *, memory: dict[str, Any], heads: dict[str, Any]) -> None:
    """Registers the families `spaces-CALLED` and `learned-CALLED`.

    Args:
        memory: arguments of `with_memory`.
        heads: arguments of `with_ngram_heads`.
    """

    def around(plain: LanguageModel.Config) -> LanguageModel.Config:
        return with_ngram_heads(with_memory(plain, **memory), **heads)

    for name, hierarchy in (("spaces", spacebyte), ("learned", hnet)):
        family(f"{name}-{called}")(extending(hierarchy)(around))
