"""Mixture-of-Depths against dense models: `mod` and `transformer`.

training                   forward and backward of a batch at equal layers and width, in turn; the ratio against that of
                           the declared FLOPs
sampling                   a decode step after contexts of several lengths, where an eighth of the positions is routed
                           exactly
equal FLOPs per byte       the same of the two sizes that `studies/mod.py` trains
equal FLOPs of training    the same of the two that `studies/mod_isoflops.py` trains in one shape, the dense one on
                           fewer bytes
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import everlong
from benchmarks.harness import interleave, record
from everlong import LanguageModel, Span
from everlong.core.state import state_bytes
from everlong.depth.mixture_of_depths import MixtureOfDepths

Sizes = dict[str, dict[str, Any]]
"""Arguments by family, of `tiny`."""
ALIKE: Sizes = {"mod": {}, "transformer": {}}
STUDIED: dict[str, Sizes] = {
    "equal FLOPs per byte": {
        "mod": {"layers": 6, "width": 72, "heads": 2, "hidden": 232},
        "transformer": {"layers": 4, "width": 64, "heads": 2, "hidden": 192},
    },
    "equal FLOPs of training": {
        "mod": {"layers": 6, "width": 64, "heads": 2, "hidden": 184},
        "transformer": {"layers": 6, "width": 64, "heads": 2, "hidden": 192},
    },
}
ROWS, WINDOW = 8, 512
CONTEXTS = (1024, 4096, 16_384)
STEPS = 32  # decode steps of one timed run, of which an eighth is routed
CHUNK = 2048  # bytes of context that are read at a time


def main() -> None:
    """Times both and keeps the result."""
    results: dict[str, Any] = {"training": training()}
    for name, sizes in {"sampling": ALIKE, **STUDIED}.items():
        results[name] = {str(length): sampling(sizes, length) for length in CONTEXTS}
    record("mod", results)


def training() -> dict[str, Any]:
    """Seconds of a forward and backward of both, how often longer the dense one takes, and how often by its FLOPs."""
    models = {family: everlong.build(f"{family}:tiny").train() for family in ALIKE}
    timings, ratios = interleave({name: _pass(model) for name, model in models.items()})
    flops = {name: model.flops(WINDOW) for name, model in models.items()}
    return {"timings": timings, "faster": ratios["transformer"], "by_flops": flops["transformer"] / flops["mod"]}


@torch.inference_mode()
def sampling(sizes: Sizes, length: int) -> dict[str, Any]:
    """Seconds a token of both, how often longer the dense one takes, and the bytes of state."""
    models = {family: _evenly_routed(everlong.build(f"{family}:tiny", **size)) for family, size in sizes.items()}
    states = {name: _read(model, length) for name, model in models.items()}
    timings, ratios = interleave({name: _steps(model, states[name]) for name, model in models.items()})
    return {
        "seconds_per_token": {name: timing.median / STEPS for name, timing in timings.items()},
        "faster": ratios["transformer"],
        "state_bytes": {name: state_bytes(state) for name, state in states.items()},
    }


def _evenly_routed(model: LanguageModel) -> LanguageModel:
    """Routes every eighth position; what its rule says is worked out, and not followed."""
    for part in model.modules():
        if isinstance(part, MixtureOfDepths):
            part.choose = _every(part, round(1 / part.capacity))  # type: ignore[method-assign]
    return model


def _every(part: MixtureOfDepths, distance: int) -> Callable[[Tensor, Span], Tensor]:
    by_rule = part.choose

    def choose(x_BTD: Tensor, span: Span) -> Tensor:
        by_rule(x_BTD, span)
        return (span.position_BT % distance == 0).expand_as(span.ids_BT)

    return choose


def _pass(model: LanguageModel) -> Callable[[], None]:
    generator = torch.Generator().manual_seed(0)
    ids_BT = torch.randint(0, 256, (ROWS, WINDOW), generator=generator)

    def run() -> None:
        output = model(ids_BT)
        loss = F.cross_entropy(output.logits.flatten(0, 1), ids_BT.flatten())
        torch.stack([loss, *output.auxiliary.values()]).sum().backward()
        model.zero_grad()

    return run


def _read(model: LanguageModel, length: int) -> everlong.StreamState:
    generator, state = torch.Generator().manual_seed(0), None
    for _ in range(length // CHUNK or 1):
        state = model(torch.randint(0, 256, (1, min(CHUNK, length)), generator=generator), state).state
    assert state is not None
    return state


def _steps(model: LanguageModel, state: everlong.StreamState) -> Callable[[], None]:
    ids_B1 = torch.zeros(1, 1, dtype=torch.int64)

    def run() -> None:
        ahead = state
        for _ in range(STEPS):
            ahead = model(ids_B1, ahead).state

    return run


if __name__ == "__main__":
    main()
