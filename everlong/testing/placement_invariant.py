"""Law 5, placement-invariant: device, kernel, threads and dtype give the same numbers, judged by a float64 oracle."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor, nn

from everlong.kernels.attention import attention_backend
from everlong.testing.compare import assert_near, gradients_of, pattern
from everlong.testing.stream import Stream, place

Oracle = Callable[[Mapping[str, Tensor], Stream], Tensor]
"""From the part's weights by name, and a stream, to the outputs; only the real ones count."""

TOLERANCE = {torch.float32: 8.0, torch.bfloat16: 3.0}
"""Error allowed, in units of what one rounding of every weight and input does to the oracle's outputs."""


def check_placement_invariant(part: nn.Module, stream: Stream, oracle: Oracle) -> None:
    """Raises AssertionError if a placement differs from the oracle: in float64 by 1e-10 (gradients 1e-9), in other
    dtypes by `TOLERANCE`."""
    check_agree(part, stream, oracle)
    check_threads(part, stream)
    for dtype in TOLERANCE:
        check_dtype(part, stream, oracle, dtype, "cpu")
        if torch.cuda.is_available():
            check_dtype(part, stream, oracle, dtype, "cuda")


def check_agree(part: nn.Module, stream: Stream, oracle: Oracle) -> None:
    """The fast form, the reference and the oracle, in float64, with gradients."""
    weights = dict(part.named_parameters())
    expected, expected_gradients = _answers(lambda s: oracle(weights, s), part, stream)
    for backend in ("auto", "reference"):
        with attention_backend(backend):
            y, gradients = _answers(lambda s: part(s.x_BTD, s.span)[0], part, stream)
        what = f"not placement-invariant, {backend} against the oracle: "
        assert_near(y, expected, 1e-10, what + "the output")
        for name, gradient in gradients.items():
            assert_near(gradient, expected_gradients[name], 1e-9, f"{what}the gradient of {name}")


def check_threads(part: nn.Module, stream: Stream) -> None:
    """Two threads against one."""
    run = lambda: _answers(lambda s: part(s.x_BTD, s.span)[0], part, stream)  # noqa: E731
    with _threads(1):
        one, gradients = run()
    with _threads(2):
        two, others = run()
    assert_near(two, one, 1e-12, "not placement-invariant, two threads against one: the output")
    for name, gradient in gradients.items():
        assert_near(others[name], gradient, 1e-12, f"not placement-invariant, two threads: the gradient of {name}")


def check_dtype(part: nn.Module, stream: Stream, oracle: Oracle, dtype: torch.dtype, device: str) -> None:
    """A dtype on a device, in one call and token by token, against the oracle fed with the same rounded numbers."""
    low = copy.deepcopy(part).to(device, dtype).requires_grad_(False)
    stream = replace(stream, x_BTD=stream.x_BTD.to(dtype))
    weights = {name: parameter.cpu().double() for name, parameter in low.named_parameters()}
    exact = replace(stream, x_BTD=stream.x_BTD.double())
    expected = oracle(weights, exact)[stream.mask_BT]
    allowed = TOLERANCE[dtype] * _rms(_rounded_once_more(oracle, weights, exact, dtype) - expected)
    for cuts in ([], list(range(1, stream.shape[1]))):
        outputs, state = [], None
        for x_BCD, span in stream.pieces(cuts):
            y_BCD, state = low(x_BCD.to(device), place(span, device), state)
            outputs.append(y_BCD.cpu())
        y = torch.cat(outputs, dim=1)[stream.mask_BT]
        what = f"not placement-invariant, {dtype} on {device}, {len(outputs)} calls:"
        assert y.dtype == dtype, f"{what} the output is {y.dtype}"
        error = _rms(y.double() - expected)
        assert error <= allowed, f"{what} error {error:.3g}, allowed {allowed:.3g}"


def _rounded_once_more(oracle: Oracle, weights: dict[str, Tensor], stream: Stream, dtype: torch.dtype) -> Tensor:
    """The oracle's answer when every number it is given is off by up to half a unit in the last place."""

    def off(x: Tensor) -> Tensor:
        return x * (1 + torch.finfo(dtype).eps / 2 * pattern(x))

    others = {name: off(weight) for name, weight in weights.items()}
    return oracle(others, replace(stream, x_BTD=off(stream.x_BTD)))[stream.mask_BT]


def _rms(x: Tensor) -> float:
    return x.square().mean().sqrt().item()


def _answers(run: Callable[[Stream], Tensor], part: nn.Module, stream: Stream) -> tuple[Tensor, dict[str, Tensor]]:
    """Real outputs, and the gradients of their weighted sum."""
    x_BTD = stream.x_BTD.clone().requires_grad_()
    y_BTD = run(replace(stream, x_BTD=x_BTD))
    inputs = {"the input": x_BTD, **dict(part.named_parameters())}
    loss = (y_BTD * pattern(y_BTD))[stream.mask_BT].sum()
    found = gradients_of(loss, inputs.values())
    return y_BTD[stream.mask_BT].detach(), dict(zip(inputs, found, strict=True))


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
