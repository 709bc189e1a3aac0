"""Models small enough to decode thousands of tokens, that are sure of themselves all the same."""

from __future__ import annotations

from typing import Any

import torch

import everlong
from everlong import LanguageModel

SHAPES: dict[str, dict[str, int]] = {
    "window": {"window": 6},
    "linear": {},
    "transformer": {},
    "sparse": {"block": 5, "summary": 2},
}


def small(
    family: str = "window", *, sharp: float = 20.0, dtype: torch.dtype = torch.float64, **overrides: Any
) -> LanguageModel:
    """A random model of one of the families that hears its past well; `sharp` scales its logits, from close to 0."""
    torch.manual_seed(1)
    shape = {"layers": 2, "width": 16, "heads": 2, "hidden": 32, **SHAPES[family], **overrides}
    model = everlong.build(f"{family}:nano", **shape).to(dtype)
    with torch.no_grad():
        model.head.weight *= sharp
        for layer in model.body.residual_writers():
            layer.weight *= 8
    return model


def watch(model: LanguageModel, monkeypatch) -> list[tuple[int, int, bool]]:
    """Notes every call: rows, positions, and whether it was ragged."""
    calls, forward = [], model.forward

    def noted(ids, state=None, **marks):
        calls.append((*ids.shape, marks.get("real") is not None))
        return forward(ids, state, **marks)

    monkeypatch.setattr(model, "forward", noted)
    return calls
