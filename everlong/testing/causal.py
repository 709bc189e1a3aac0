"""Law 1, causal: the output at t does not change when anything after t changes."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from everlong.testing.compare import assert_near, pattern
from everlong.testing.stream import Stream, random_layout


def check_causal(part: nn.Module, stream: Stream) -> None:
    """Raises AssertionError if the output at any real t depends on what comes after, in value or in gradient."""
    _check_values(part, stream)
    _check_gradients(part, stream)


def _check_values(part: nn.Module, stream: Stream) -> None:
    """Other vectors, ids, documents and padding after t; and nothing after t."""
    with torch.no_grad():
        y_BTD, _ = part(stream.x_BTD, stream.span)
        for t in range(stream.shape[1]):
            past = stream.mask_BT[:, : t + 1]
            expected = y_BTD[:, : t + 1][past]
            for what, other in (("changes", _other_future(stream, t)), ("is cut off", stream.until(t + 1))):
                found = part(other.x_BTD, other.span)[0][:, : t + 1][past]
                assert_near(found, expected, 1e-12, f"not causal: up to {t}, when what comes after {what}, the output")


def _other_future(stream: Stream, t: int) -> Stream:
    other = Stream.random(*stream.shape, stream.x_BTD.shape[-1], seed=1000 + t)
    if stream.document_BT is not None:
        other = random_layout(other, seed=2000 + t)
    later = torch.arange(stream.shape[1]) > t

    def join(old, new):
        return old if old is None else torch.where(later if old.ndim == 2 else later[:, None], new, old)

    return replace(stream, **{name: join(getattr(stream, name), getattr(other, name)) for name in vars(stream)})


def _check_gradients(part: nn.Module, stream: Stream) -> None:
    x_BTD = stream.x_BTD.clone().requires_grad_()
    y_BTD, _ = part(x_BTD, stream.span)
    for t in range(stream.shape[1]):
        y_BD = y_BTD[:, t] * stream.mask_BT[:, t, None]
        (grad_BTD,) = torch.autograd.grad((y_BD * pattern(y_BD)).sum(), x_BTD, retain_graph=True)
        assert grad_BTD.isfinite().all(), f"the gradient of the output at {t} is not finite"
        later = grad_BTD[:, t + 1 :].abs().sum(dim=(0, 2)).nonzero()[:, 0] + t + 1
        assert not len(later), f"not causal: the output at {t} has a gradient for the inputs at {later.tolist()}"
