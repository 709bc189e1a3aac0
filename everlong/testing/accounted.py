"""Law 6, accounted: declared parameters, FLOPs and state bytes are those counted and measured."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from everlong.core.accounting import parameter_count, parameter_hints
from everlong.core.state import state_bytes
from everlong.kernels.attention import attention_backend
from everlong.testing.bounded import final_state
from everlong.testing.stream import Stream


def check_accounted(part: Any, width: int, T: int = 11) -> None:
    """Raises AssertionError if the FLOPs of T single-token calls or the bytes of the state after them are not exactly
    as declared, or a parameter is not hinted at exactly once."""
    stream = Stream.random(1, T, width)
    for length in (1, T // 2, T):
        begun = stream.until(length)
        counted, declared = counted_flops(part, begun, list(range(1, length))), part.flops(length)
        assert counted == declared, f"not accounted: {length} positions take {counted} FLOPs, declared are {declared}"
        with torch.no_grad():
            held, stated = state_bytes(final_state(part, begun, [])), part.state_bytes(length)
        assert held == stated, f"not accounted: {length} positions leave {held} bytes of state, declared are {stated}"
    check_parameters(part)


def counted_flops(part: nn.Module, stream: Stream, cuts: list[int]) -> int:
    """What torch counts, in the plain form of attention, whose products a counter can see."""
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), attention_backend("reference"), counter:
        final_state(part, stream, cuts)
    return counter.get_total_flops()


def check_parameters(part: nn.Module) -> None:
    """Every parameter stands in exactly one group, and hints are given for what exists."""
    groups: dict[Any, int] = {}
    names = []
    for name, parameter, hint in parameter_hints(part):
        names.append(name)
        groups[hint] = groups.get(hint, 0) + parameter.numel()
    expected = [name for name, _ in part.named_parameters()]
    assert sorted(names) == sorted(expected), f"not accounted: hints for {names}, parameters are {expected}"
    assert sum(groups.values()) == parameter_count(part), f"not accounted: groups {groups} do not sum to the total"
    for path, module in part.named_modules():
        own = {"", *dict(module.named_parameters(recurse=False)), *dict(module.named_children())}
        unknown = set(getattr(module, "hints", {})) - own
        assert not unknown, f"not accounted: {path or 'the part'} hints at {unknown}, and has {own}"
