"""Law 3, isolated: documents, padding and batch neighbours do not affect each other."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from everlong.testing.compare import assert_near, gradients_of, pattern
from everlong.testing.stream import Stream

HUGE = 1e30  # what padding may hold, in float64 and squared


def check_isolated(part: nn.Module, stream: Stream) -> None:
    """Raises AssertionError if a document of the stream gives other outputs or gradients than it does alone, if what
    stands at padding shows anywhere, or if any number is not finite."""
    y_BTD, found = _run(part, stream)
    _check_alone(part, stream, y_BTD, found)
    _check_neighbours(part, stream, y_BTD)
    _check_padding(part, stream, y_BTD, found)


def _run(part: nn.Module, stream: Stream) -> tuple[Tensor, dict[str, Tensor]]:
    """Outputs, and gradients of the real ones."""
    x_BTD = stream.x_BTD.clone().requires_grad_()
    y_BTD, _ = part(x_BTD, stream.span)
    inputs = {"the input": x_BTD, **dict(part.named_parameters())}
    loss = (y_BTD * pattern(y_BTD))[stream.mask_BT].sum()
    found = gradients_of(loss, inputs.values())
    assert y_BTD.isfinite().all(), "not isolated: an output is not finite"
    for name, gradient in zip(inputs, found, strict=True):
        assert gradient.isfinite().all(), f"not isolated: the gradient of {name} is not finite"
    return y_BTD.detach(), dict(zip(inputs, found, strict=True))


def _check_alone(part: nn.Module, stream: Stream, y_BTD: Tensor, expected: dict[str, Tensor]) -> None:
    weight_BTD = pattern(y_BTD)
    totals = {name: torch.zeros_like(gradient) for name, gradient in expected.items()}
    for b, index_R in stream.documents():
        x_1RD = stream.x_BTD[b, index_R][None].clone().requires_grad_()
        y_1RD, _ = part(x_1RD, Stream(x_1RD, stream.ids_BT[b, index_R][None]).span)
        what = f"not isolated: row {b}, the document at {index_R.tolist()} against itself alone: "
        assert_near(y_BTD[b, index_R], y_1RD[0], 1e-10, what + "the output")
        inputs = [x_1RD, *part.parameters()]
        shares = gradients_of((y_1RD[0] * weight_BTD[b, index_R]).sum(), inputs)
        for total, share in zip(totals.values(), shares, strict=True):
            if total is totals["the input"]:
                total[b, index_R] = share[0]
            else:
                total += share
    for name, gradient in expected.items():
        assert_near(gradient, totals[name], 1e-9, f"not isolated, against the sum of the documents: gradient of {name}")


def _check_neighbours(part: nn.Module, stream: Stream, y_BTD: Tensor) -> None:
    for b in range(stream.shape[0]):
        row = stream.rows([b])
        y_1TD, _ = part(row.x_BTD, row.span)
        real_1T = row.mask_BT
        assert_near(y_1TD[real_1T], y_BTD[b : b + 1][real_1T], 1e-10, f"not isolated: row {b} without the others")


def _check_padding(part: nn.Module, stream: Stream, y_BTD: Tensor, expected: dict[str, Tensor]) -> None:
    real_BT, sign_BTD = stream.mask_BT, pattern(stream.x_BTD).sign()
    x_BTD = torch.where(real_BT[..., None], stream.x_BTD, HUGE * sign_BTD)
    ids_BT = torch.where(real_BT, stream.ids_BT, (stream.ids_BT + 5) % 7)
    y_other, other = _run(part, replace(stream, x_BTD=x_BTD, ids_BT=ids_BT))
    assert_near(y_other[real_BT], y_BTD[real_BT], 1e-10, "not isolated: with other values at padding, the output")
    for name, gradient in expected.items():
        assert_near(other[name], gradient, 1e-9, f"not isolated: with other values at padding, the gradient of {name}")
