"""Law 2, split-invariant: any cuts, with the state carried, give the same outputs, gradients and final state."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from everlong.core.state import state_tensors
from everlong.testing.compare import assert_near, assert_states_near, gradients_of, pattern
from everlong.testing.stream import Stream


def check_split_invariant(part: nn.Module, stream: Stream, cuts: Sequence[int]) -> None:
    """Raises AssertionError if the cut stream differs from the whole: outputs by 1e-10, gradients by 1e-9, or the
    final state in its tree or by 1e-10."""
    whole, parts = (_with_gradients(part, stream, c) for c in ([], cuts))
    where = f"not split-invariant, cut before {sorted(cuts)}: "
    real = stream.mask_BT
    assert_near(parts.y_BTD[real], whole.y_BTD[real], 1e-10, where + "the output")
    assert_states_near(parts.state, whole.state, 1e-10)
    for name, gradient in whole.gradients.items():
        assert_near(parts.gradients[name], gradient, 1e-9, f"{where}the gradient of {name}")


def check_carried(part: nn.Module, stream: Stream, cuts: Sequence[int], carry: Callable[[Any], Any]) -> None:
    """Raises AssertionError if what `carry` does to the state between calls, such as saving and loading it, shows."""
    with torch.no_grad():
        whole_BTD, whole = run(part, stream, [])
        parts_BTD, parts = run(part, stream, cuts, carry)
    real = stream.mask_BT
    assert_near(parts_BTD[real], whole_BTD[real], 1e-10, f"not split-invariant, carried over {cuts}: the output")
    assert_states_near(parts, whole, 1e-10)


def run(
    part: nn.Module, stream: Stream, cuts: Sequence[int], carry: Callable[[Any], Any] = lambda state: state
) -> tuple[Tensor, Any]:
    """Outputs and final state of the cut stream."""
    outputs, state = [], None
    for x_BCD, span in stream.pieces(cuts):
        y_BCD, state = part(x_BCD, span, state)
        state = carry(state)
        outputs.append(y_BCD)
    return torch.cat(outputs, dim=1), state


@dataclass(frozen=True)
class _Trace:
    y_BTD: Tensor
    state: Any
    gradients: dict[str, Tensor]


def _with_gradients(part: nn.Module, stream: Stream, cuts: Sequence[int]) -> _Trace:
    """A run, and the gradients of every real output and of the final state."""
    x_BTD = stream.x_BTD.clone().requires_grad_()
    y_BTD, state = run(part, replace(stream, x_BTD=x_BTD), cuts)
    inputs = {"the input": x_BTD, **dict(part.named_parameters())}
    ends = [y_BTD * stream.mask_BT[..., None], *(leaf for leaf in state_tensors(state) if leaf.is_floating_point())]
    loss = torch.stack([(end * pattern(end)).sum() for end in ends]).sum()
    found = gradients_of(loss, inputs.values())
    return _Trace(y_BTD.detach(), state, dict(zip(inputs, found, strict=True)))
