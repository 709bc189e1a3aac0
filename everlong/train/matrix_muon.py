"""Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon) for matrices and stacks of them, as experts.

Every matrix is updated as torch's own Muon would update it. That one takes single matrices only, and orthogonalises in
bfloat16 everywhere, where this one does so in what the device multiplies natively.

Legend: N matrices of A rows and B columns.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from everlong.train.precision import dtype_of, native_precision

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic Newton-Schulz iteration."""
ITERATIONS = 5
SMALLEST = 1e-7
"""Below which the norm of an update is taken for 0."""


class MatrixMuon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised; scaled by 0.2 sqrt(max(A, B)) to the size of AdamW's updates (Liu et al. 2025,
    arXiv 2502.16982, eq. 4); decoupled weight decay."""

    def __init__(self, params: Any, *, lr: float = 1e-3, weight_decay: float = 0.1, momentum: float = 0.95) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One update of every matrix that has a gradient."""
        loss = None if closure is None else torch.enable_grad()(closure)()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, parameter.grad, group)
        return loss

    def _update(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        memory = self.state[parameter]
        if not memory:
            memory["momentum_buffer"] = torch.zeros_like(gradient)
        momentum, buffer = group["momentum"], memory["momentum_buffer"]
        buffer.lerp_(gradient, 1 - momentum)
        update = torch.lerp(gradient, buffer, momentum)
        direction = orthogonal(update if update.ndim == 3 else update[None]).reshape(update.shape)
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.add_(direction, alpha=-group["lr"] * 0.2 * math.sqrt(max(parameter.shape[-2:])))


def orthogonal(x_NAB: Float[Tensor, "n a b"]) -> Float[Tensor, "n a b"]:
    """About U V^T of every U S V^T: singular values between about 0.7 and 1.2."""
    a, b, c = COEFFICIENTS
    turned = x_NAB.shape[1] > x_NAB.shape[2]
    y_NAB = (x_NAB.mT if turned else x_NAB).to(dtype_of(native_precision(x_NAB.device)))
    y_NAB = y_NAB / y_NAB.norm(dim=(1, 2), keepdim=True).clamp(min=SMALLEST)
    for _ in range(ITERATIONS):
        gram_NAA = y_NAB @ y_NAB.mT
        update_NAA = torch.baddbmm(gram_NAA, gram_NAA, gram_NAA, beta=b, alpha=c)
        y_NAB = torch.baddbmm(y_NAB, update_NAA, y_NAB, beta=a)
    return y_NAB.mT if turned else y_NAB
