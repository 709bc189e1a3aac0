"""From logits to the next token.

Legend: B batch rows, V vocabulary, W recent tokens.

In this order: the repetition penalty divides the positive logits of recent tokens and multiplies the negative ones
(after Keskar et al. 2019, arXiv 1909.05858, section 4.1); the temperature divides all; top-k keeps the k likeliest
tokens; top-p the fewest likeliest that together reach p (Holtzman et al. 2020, arXiv 1904.09751, section 3.1); min-p
those at least that fraction as likely as the likeliest (Nguyen et al. 2024, arXiv 2407.01082). Every filter sees what
the one before it left, renormalised; among equally likely tokens the smaller id comes first.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from everlong.core.config import Config, check
from everlong.generate.stream import finite


class Sampling(Config):
    """How the next token is chosen.

    Raises:
        ConfigError: a value is out of its range.
    """

    temperature: float = 1.0
    """Divides the logits, by at least 1e-6; 0 always takes the likeliest token."""
    top_k: int | None = None
    """How many of the likeliest tokens stay. `None`: all."""
    top_p: float = 1.0
    """Probability that the likeliest tokens must reach together; 1: all stay."""
    min_p: float = 0.0
    """Least probability that a token must have, as a fraction of the likeliest one's; 0: all stay."""
    repetition_penalty: float = 1.0
    """Above 1, tokens among the recent ones become less likely; 1: no penalty."""
    repetition_window: int = 64
    """How many tokens are recent, the prompt's included."""
    seed: int = 0
    """The same seed and prompt give the same text, whatever else is in the batch."""

    def __post_init__(self) -> None:
        warm = self.temperature == 0 or self.temperature >= 1e-6  # less would overflow
        _check_number("temperature", self.temperature, warm, "0 (greedy), or at least 1e-6")
        check(self.top_k is None or self.top_k >= 1, "top_k", self.top_k, "must be at least 1, or None for all")
        _check_number("top_p", self.top_p, 0 < self.top_p <= 1, "above 0 and at most 1 (all)")
        _check_number("min_p", self.min_p, 0 <= self.min_p <= 1, "from 0 (all) to 1")
        penalty = self.repetition_penalty
        _check_number("repetition_penalty", penalty, penalty > 0, "positive; 1 is none")
        check(self.repetition_window >= 1, "repetition_window", self.repetition_window, "must be at least 1 token")
        check(0 <= self.seed < 2**63, "seed", self.seed, "must be from 0 to 2**63 - 1")


def _check_number(field: str, value: float, holds: bool, valid: str) -> None:
    check(holds and math.isfinite(value), field, value, f"must be {valid}")


def probabilities(
    logits_BV: Float[Tensor, "b v"], sampling: Sampling, recent_BW: Int64[Tensor, "b w"] | None = None
) -> Float[Tensor, "b v"]:
    """Probabilities of the next token, in float32 or better; exactly 0 where a filter excludes it.

    Args:
        logits_BV: unnormalised log-probabilities; -inf excludes a token.
        recent_BW: the tokens that the repetition penalty is for. `None`: no penalty.

    Raises:
        EverlongError: a row has no finite logit, or a NaN.
    """
    scores_BV = logits_BV.to(torch.promote_types(logits_BV.dtype, torch.float32))
    if recent_BW is not None:
        scores_BV = _penalised(scores_BV, recent_BW, sampling.repetition_penalty)
    finite(scores_BV.amax(-1))
    if sampling.temperature == 0:
        return F.one_hot(scores_BV.argmax(-1), scores_BV.shape[-1]).to(scores_BV.dtype)
    p_BV = torch.softmax(scores_BV / sampling.temperature, dim=-1)
    if sampling.top_k is None and sampling.top_p == 1 and sampling.min_p == 0:
        return p_BV
    p_BV, order_BV = p_BV.sort(dim=-1, descending=True, stable=True)
    return torch.zeros_like(p_BV).scatter(-1, order_BV, _filtered(p_BV, sampling))


def draw(p_BV: Float[Tensor, "b v"], generators: Sequence[torch.Generator]) -> Int64[Tensor, " b"]:
    """One token a row, by inverting the cumulative distribution at a uniform number of the row's own generator.

    Args:
        p_BV: probabilities; a token of probability 0 is never drawn.
        generators: one CPU generator a row.

    Returns:
        Token ids, on the CPU.
    """
    cumulative_BV = p_BV.cpu().double().cumsum(-1)
    uniform_B1 = torch.stack([torch.rand(1, generator=row, dtype=torch.float64) for row in generators])
    return torch.searchsorted(cumulative_BV, uniform_B1 * cumulative_BV[:, -1:], right=True)[:, 0]


def generator_for(seed: int, prompt: bytes, copy: int) -> torch.Generator:
    """The generator of a row, derived from what the row is and not from where it stands.

    Args:
        copy: how many rows before it have the same prompt, so that equal prompts give different texts.
    """
    digest = hashlib.sha256(f"{seed} {copy} ".encode() + prompt).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:4], "big"))  # it uses 32 bits of its seed


def _penalised(scores_BV: Tensor, recent_BW: Tensor, penalty: float) -> Tensor:
    scores_BW = scores_BV.gather(1, recent_BW)
    return scores_BV.scatter(1, recent_BW, torch.where(scores_BW > 0, scores_BW / penalty, scores_BW * penalty))


def _filtered(p_BV: Tensor, sampling: Sampling) -> Tensor:
    """Applies the filters to probabilities that fall along each row."""
    if sampling.top_k is not None:
        rank_V = torch.arange(p_BV.shape[-1], device=p_BV.device)
        p_BV = _keep(p_BV, rank_V < sampling.top_k)
    if sampling.top_p < 1:
        before_BV = F.pad(p_BV.cumsum(-1), (1, -1))  # the probability of all that are likelier
        p_BV = _keep(p_BV, before_BV < sampling.top_p)
    return _keep(p_BV, p_BV >= sampling.min_p * p_BV[:, :1])


def _keep(p_BV: Tensor, kept: Tensor) -> Tensor:
    p_BV = p_BV.masked_fill(~kept, 0)
    return p_BV / p_BV.sum(-1, keepdim=True)
