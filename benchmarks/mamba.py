"""Mamba-2 on one machine: the operator and the layer against transformers' torch path and against full attention, and a
decode step against the length of the context.

Every size is measured in one run with its peers in turn. Peak memory is that of a process of its own for each side.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.harness import interleave, record
from everlong import Span
from everlong.core.state import state_bytes
from everlong.evaluate.memory import highest_resident
from everlong.kernels.ssd import ssd
from everlong.sequence.attention import Attention
from everlong.sequence.mamba import Mamba2
from everlong.sequence.position import Rotary

WIDTH, HEAD, STATE = 512, 64, 64
LENGTHS = tuple(int(n) for n in os.environ.get("EVERLONG_BENCHMARK_LENGTHS", "2048,4096,8192,32768").split(","))
LONGEST_ATTENTION = 8192  # beyond it, attention's backward pass takes minutes
CHUNK = 64  # positions of transformers' chunks: its fastest here


def main() -> None:
    """Times everything and keeps the result."""
    record(
        "mamba",
        {
            "operator": {f"{length}": operator(length) for length in LENGTHS},
            "layer": {f"{length}": layer(length) for length in LENGTHS},
            "decode": decode([length for length in LENGTHS if length <= LONGEST_ATTENTION]),
            "peak_bytes": {f"{length}": memory(length) for length in LENGTHS},
        },
    )


def timed(sides: dict[str, Callable[[], object]], length: int) -> dict[str, Any]:
    """Timings of all sides, and their ratios to the first."""
    timings, ratios = interleave(sides, runs=5 if length <= 8192 else 3, warm_up=1)
    return {"seconds": timings, "ratio_to_first": ratios}


def operator(length: int) -> dict[str, Any]:
    """The recurrence alone, forward, and forward and backward."""
    from transformers.models.mamba2.modeling_mamba2 import mamba2_chunk_scan

    torch.manual_seed(0)
    H = 2 * WIDTH // HEAD
    x, dt = torch.randn(1, length, H, HEAD), torch.rand(1, length, H) * 0.1
    A, b, c = -torch.linspace(1, 16, H), torch.randn(1, length, 1, STATE), torch.randn(1, length, 1, STATE)
    inputs = [z.requires_grad_() for z in (x, dt, A, b, c)]
    own = lambda: ssd(*inputs)[0]  # noqa: E731
    peer = lambda: _first(mamba2_chunk_scan(*inputs, chunk_size=CHUNK))  # noqa: E731
    sides = {"everlong": own, "transformers": peer}
    return {"forward": timed(_without_grad(sides), length), "both": timed(_backward(sides, inputs), length)}


def layer(length: int) -> dict[str, Any]:
    """A whole layer, beside transformers', the same without its recurrence, and attention of the same width."""
    x_BTD = torch.randn(1, length, WIDTH, requires_grad=True)
    sides = {name: partial(make(), x_BTD) for name, make in LAYERS.items()}
    results = {"forward": timed(_without_grad(sides), length)}
    if length > LONGEST_ATTENTION:
        del sides["attention"]
    return results | {"both": timed(_backward(sides, [x_BTD]), length)}


def decode(lengths: list[int]) -> dict[str, Any]:
    """A token after contexts of several lengths."""
    found: dict[str, Any] = {}
    token_B1D, ids_B1 = torch.randn(1, 1, WIDTH), torch.zeros(1, 1, dtype=torch.int64)
    for name, part in {"everlong": _mamba(), "attention": _attention()}.items():
        states = {length: _read(part, length) for length in lengths}
        span = Span.plain_from(ids_B1)
        sides = {f"{length}": partial(_step, part, token_B1D, span, state) for length, state in states.items()}
        found[name] = timed(sides, 0) | {"state_bytes": {n: state_bytes(state) for n, state in states.items()}}
    return found


def memory(length: int) -> dict[str, int]:
    """Peak bytes of a forward and backward pass above those before it, side by side."""
    names = [name for name in LAYERS if length <= LONGEST_ATTENTION or name != "attention"]
    command = [sys.executable, "-m", "benchmarks.mamba"]
    return {name: int(subprocess.check_output([*command, name, str(length)], text=True)) for name in names}


def peak(name: str, length: int) -> int:
    """What `memory` asks another process for; Linux only."""
    part, x_BTD = LAYERS[name](), torch.randn(1, length, WIDTH, requires_grad=True)
    before = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    part(x_BTD).square().mean().backward()
    return highest_resident() - before  # not rusage's, which a process inherits from the one that began it


def _mamba() -> Mamba2:
    return Mamba2.Config(width=WIDTH, heads=2 * WIDTH // HEAD, head_size=HEAD, state_size=STATE).build()


def _attention() -> Attention:
    heads = WIDTH // HEAD
    return Attention.Config(width=WIDTH, heads=heads, kv_heads=heads, position=Rotary.Config()).build()


class _Alone(nn.Module):
    """A part from the start of a plain stream."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part

    def forward(self, x_BTD: Tensor) -> Tensor:
        return self.part(x_BTD, Span.plain_from(torch.zeros(x_BTD.shape[:2], dtype=torch.int64)))[0]


class _WithoutRecurrence(Mamba2):
    """The floor: the same layer, whose recurrence hands its input on."""

    def mix(self, u_BTC, dt_BTH, rows, s_BGNJ):
        return u_BTC[..., : self.inner] * self.D.mean(), u_BTC.new_zeros(1)


def _floor() -> nn.Module:
    return _Alone(_WithoutRecurrence(_mamba().config))


def _transformers() -> nn.Module:
    from transformers import Mamba2Config
    from transformers.models.mamba2.modeling_mamba2 import Mamba2Mixer

    heads = 2 * WIDTH // HEAD
    config = Mamba2Config(
        hidden_size=WIDTH, num_heads=heads, head_dim=HEAD, state_size=STATE, n_groups=1, chunk_size=CHUNK
    )
    return Mamba2Mixer(config, layer_idx=0)


LAYERS: dict[str, Callable[[], nn.Module]] = {
    "everlong": lambda: _Alone(_mamba()),
    "transformers": _transformers,
    "without recurrence": _floor,
    "attention": lambda: _Alone(_attention()),
}


def _first(found: Any) -> Tensor:
    return found[0] if isinstance(found, tuple) else found


def _without_grad(sides: dict[str, Callable[[], Tensor]]) -> dict[str, Callable[[], object]]:
    return {name: torch.no_grad()(run) for name, run in sides.items()}


def _backward(sides: dict[str, Callable[[], Tensor]], inputs: list[Tensor]) -> dict[str, Callable[[], object]]:
    def both(run: Callable[[], Tensor]) -> None:
        torch.autograd.backward(run().square().mean(), inputs=inputs)

    return {name: partial(both, run) for name, run in sides.items()}


@torch.no_grad()
def _read(part: Any, length: int) -> Any:
    x_BTD = torch.randn(1, length, WIDTH)
    return part(x_BTD, Span.plain_from(torch.zeros(1, length, dtype=torch.int64)))[1]


@torch.no_grad()
def _step(part: Any, x_B1D: Tensor, span: Span, state: Any) -> None:
    for _ in range(20):
        _, state = part(x_B1D, span, state)


if __name__ == "__main__":
    if sys.argv[1:]:
        print(peak(sys.argv[1], int(sys.argv[2])))
    else:
        main()
