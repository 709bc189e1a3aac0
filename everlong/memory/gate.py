"""Gates of n-gram memory: how far a position lets in what it remembers, from its vector and the memory's key.

Legend: B batch rows, T positions, R residual branches, E width of a branch.

    s = h . k / sqrt(E),   gate = sigmoid(s)                                  Engram, arXiv 2601.07372, eq. 4
                           gate = sigmoid(sign(s) sqrt(max(|s|, 1e-6)))       the authors' code, the released model

with h and k normalised. Both are computed in float32 or better, for the slope of the square root is steep near 0.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from everlong.core.config import Config, Configurable


class Gate(nn.Module, Configurable):
    """From normalised vectors to numbers between 0 and 1. Subclasses write `shape`."""

    class Config(Config):
        pass

    def __init__(self, config: Gate.Config) -> None:
        super().__init__()

    def forward(self, h_BTRE: Float[Tensor, "b t r e"], k_BTRE: Float[Tensor, "b t r e"]) -> Float[Tensor, "b t r 1"]:
        """How far each branch of each position is open to its memory."""
        exact = torch.promote_types(h_BTRE.dtype, torch.float32)
        score_BTR1 = (h_BTRE.to(exact) * k_BTRE.to(exact)).sum(-1, keepdim=True) * h_BTRE.shape[-1] ** -0.5
        return torch.sigmoid(self.shape(score_BTR1))

    def shape(self, score: Tensor) -> Tensor:
        """What of a score goes into the sigmoid."""
        raise NotImplementedError


class Sigmoid(Gate):
    """The score as it is: the paper's equation."""

    class Config(Gate.Config):
        pass

    def shape(self, score: Tensor) -> Tensor:
        return score


class SignedSquareRoot(Gate):
    """The score's square root, with its sign: the authors' code."""

    class Config(Gate.Config):
        pass

    def shape(self, score: Tensor) -> Tensor:
        return score.sign() * score.abs().clamp(min=1e-6).sqrt()
