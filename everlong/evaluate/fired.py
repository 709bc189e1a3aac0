"""Which n-grams fire: what n-gram memory lets in over a text, n-gram by n-gram.

Legend: T positions, D width, A addresses a position, M = A times the width of a row.

What memory gives to a position is a sum over the orders of its n-grams, u_t = g_t sum_n W_n e_{t,n}, with the gate g_t
and W_n the columns of W_V that meet the rows e_{t,n} of order n. So at each position the n-gram is named whose own term
is the largest, and for every n-gram that was named: how often, how far the gate was open, and how large its term was
behind the gate.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from everlong.core.span import Span
from everlong.data.codec import Codec
from everlong.evaluate.report import Table
from everlong.memory.engram import Engram
from everlong.memory.lags import lagged
from everlong.model.language_model import LanguageModel

SHOWN = 50
"""N-grams of a memory that a report lists."""


@dataclass(frozen=True)
class Fired:
    """An n-gram that was the largest part of what a memory gave."""

    memory: str
    """The memory's name in the model."""
    ids: tuple[int, ...]
    """Its tokens; the last is the one at which it fires."""
    times: int
    gate: float
    """How far the gate was open, mean over the times (and over branches)."""
    size: float
    """Length of its term behind the gate, likewise."""


@torch.no_grad()
def fired(model: LanguageModel, codec: Codec, data: bytes) -> list[Fired]:
    """What fires over a text, memory by memory, the widest gates first; nothing if the model has no `Engram`."""
    device = next(model.parameters()).device
    ids_T = torch.tensor([codec.bos, *codec.encode(data).tolist()], device=device)
    calls: list[tuple[str, Engram, Span]] = []
    with ExitStack() as stack:
        for name, module in model.named_modules():
            if isinstance(module, Engram):
                stack.enter_context(module.register_forward_pre_hook(_recorder(name, calls)))
        output = model(ids_T[None])
    gates = output.observed.get("memory gate", [])
    return [one for call, gate_BTR in zip(calls, gates, strict=True) for one in _of_call(*call, gate_BTR)]


def fired_table(found: list[Fired], codec: Codec) -> list[Table]:
    """The n-grams whose gates open most, a table a memory."""
    return [
        Table(
            f"N-grams that fire in {name}",
            ("n-gram", "times", "gate", "size"),
            [(_text(one, codec), f"{one.times}", f"{one.gate:.3f}", f"{one.size:.3g}") for one in alike[:SHOWN]],
            "Where its term is the largest of all orders: how far the gate is open, and how much it lets in.",
        )
        for name, alike in _by_memory(found).items()
    ]


def _recorder(name: str, calls: list[tuple[str, Engram, Span]]) -> Any:
    def record(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        assert isinstance(module, Engram)
        calls.append((name, module, inputs[1]))

    return record


def _of_call(name: str, memory: Engram, span: Span, gate_BTR: Tensor) -> Iterator[Fired]:
    size_BTN = _terms(memory, span)
    strongest_BT, gate_BT = size_BTN.argmax(-1), gate_BTR.double().mean(-1)
    let_in_BT = gate_BT * size_BTN.amax(-1)
    longest = memory.hash.orders[-1]
    shifted, _ = lagged(span.ids_BT, span, None, range(longest), kept=longest, fill=-1)
    real_BT = torch.ones_like(strongest_BT, dtype=torch.bool) if span.real_BT is None else span.real_BT
    told = zip(
        torch.stack(shifted[::-1], dim=-1)[real_BT].tolist(),
        strongest_BT[real_BT].tolist(),
        gate_BT[real_BT].tolist(),
        let_in_BT[real_BT].tolist(),
        strict=True,
    )
    seen: defaultdict[tuple[int, ...], list[tuple[float, float]]] = defaultdict(list)
    for window, strongest, gate, size in told:
        ids = tuple(i for i in window[-memory.hash.orders[strongest] :] if i >= 0)
        seen[ids].append((gate, size))
    means = (
        Fired(name, ids, len(each), *(sum(column) / len(each) for column in zip(*each, strict=True)))
        for ids, each in seen.items()
    )
    yield from sorted(means, key=lambda one: (-one.gate, -one.size))


def _terms(memory: Engram, span: Span) -> Float[Tensor, "b t n"]:
    """The length of every order's term before the gate."""
    e_BTM = memory.table(memory.hash(span)[0]).flatten(-2)
    row_width = memory.table.rows.shape[1]
    widths = [len(heads) * row_width for heads in memory.hash.config.primes]
    columns = zip(e_BTM.split(widths, -1), memory.value.weight.split(widths, -1), strict=True)
    return torch.stack([(e_BTX @ weight_EX.T).double().norm(dim=-1) for e_BTX, weight_EX in columns], dim=-1)


def _by_memory(found: list[Fired]) -> dict[str, list[Fired]]:
    alike: defaultdict[str, list[Fired]] = defaultdict(list)
    for one in found:
        alike[one.memory].append(one)
    return alike


def _text(one: Fired, codec: Codec) -> str:
    """The n-gram as it reads; special tokens by their number."""
    specials = {codec.bos, codec.eos, codec.pad}
    shown = (f"<{i}>" if i in specials else codec.decode([i]).decode("utf-8", "backslashreplace") for i in one.ids)
    return repr("".join(shown))[1:-1]
