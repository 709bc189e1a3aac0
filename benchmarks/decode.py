"""A decode step against the length of the context: `linear` and `window` should be flat, `transformer` not.

Every model is given contexts of several lengths; a step of each is then timed in turn, so that the ratio to the
shortest context is taken under the same conditions.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

import everlong
from benchmarks.harness import interleave, record
from everlong.core.state import state_bytes

FAMILIES = ("linear", "window", "sparse", "transformer")
CONTEXTS = (1024, 4096, 16_384, 65_536)
STEPS = 20  # decode steps of one timed run
CHUNK = 2048  # bytes of context that are read at a time


def main() -> None:
    """Times every family at size tiny and keeps the result."""
    record("decode", {family: measure(family) for family in FAMILIES})


@torch.inference_mode()
def measure(family: str) -> dict[str, object]:
    """Seconds a token at every context, the ratio to the shortest, and the bytes of state."""
    model = everlong.build(f"{family}:tiny").eval()
    generator = torch.Generator().manual_seed(0)
    states = {length: _read(model, length, generator) for length in CONTEXTS}
    sides = {f"{length}": _steps(model, state) for length, state in states.items()}
    timings, ratios = interleave(sides)
    return {
        "seconds_per_token": {length: timing.median / STEPS for length, timing in timings.items()},
        "ratio_to_shortest": ratios,
        "state_bytes": {length: state_bytes(state) for length, state in states.items()},
    }


def _read(model: everlong.LanguageModel, length: int, generator: torch.Generator) -> everlong.StreamState:
    state = None
    for _ in range(length // CHUNK or 1):
        ids_BT = torch.randint(0, 256, (1, min(CHUNK, length)), generator=generator)
        state = model(ids_BT, state).state
    assert state is not None
    return state


def _steps(model: everlong.LanguageModel, state: everlong.StreamState) -> Callable[[], None]:
    """A run of `STEPS` decode steps that always begins at `state`."""
    ids_B1 = torch.zeros(1, 1, dtype=torch.int64)

    def run() -> None:
        ahead = state
        for _ in range(STEPS):
            ahead = model(ids_B1, ahead).state

    return run


if __name__ == "__main__":
    main()
