"""Mixture-of-Depths (Raposo et al. 2024, arXiv 2404.02258, eq. 1): a block that processes only some positions.

Legend: B batch rows, T positions of a call, R of them routed, D width.

With a router w, its score r_t = w x_t / rms(x_t), and the routed positions S, a share C of the document,

    y_t = x_t + g(r_t) f_t(x_S)   if t in S,   else   y_t = x_t,

where f is the update of the block, f(x) = block(x) - x, which sees nothing but S: queries, keys and values. The factor
g(r_t) is what gives the router a gradient. So y_t = lerp(x_t, block(x_S)_t, g(r_t)), whatever residual block it is.

S is chosen in two ways. In training mode: each document's best C by score, which is not causal. In evaluation mode: by
a rule that looks at one position only and that training taught (see `routing.py`); all laws hold there, and the same
positions are routed in one call as token by token.

A document's first position is always routed. The paper does not say so; it makes sure that every document has routed
positions, so that the block always hears of its beginning and its state belongs to the current document.

Routed positions keep their true place in the document, which is what RoPE turns by. Everything that counts (windows,
blocks, segments, n-grams, xPos's decay) counts routed positions: they are the stream that the block sees.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from everlong.core.accounting import Chooses, Hint, at_mean, linear_flops
from everlong.core.config import check, suggest
from everlong.core.part import Part
from everlong.core.span import Span
from everlong.depth.routing import PredictorRule, Routed, Rule, best, first, score, share

WEIGHTS: dict[str, Callable[[Tensor], Tensor]] = {"sigmoid": torch.sigmoid, "linear": lambda score: score}
"""g, by name: bounded, or the score itself as in the paper."""


class MixtureOfDepths(Chooses, Part):
    """A part around a residual block that shows it the routed positions only. State: the block's, of those."""

    shown_share = "depths/share"

    class Config(Part.Config):
        inner: Part.Config
        """The block, which adds its own residual."""
        capacity: float = 0.125
        """C, the share of positions that are routed, above 0 and up to 1."""
        weight: str = "sigmoid"
        """g, what the router's score makes of the update: a name of `WEIGHTS`."""
        rule: Rule.Config = PredictorRule.Config()
        """Who is routed outside of training."""
        router_learning_rate: float = 0.1
        """Multiplier of the learning rate for w, whose steps add up over the whole width. The slower scores move, the
        better the rule can follow."""

    def __init__(self, config: MixtureOfDepths.Config) -> None:
        super().__init__()
        remedy = f"must be the width of the whole, {config.width}"
        check(config.inner.width == config.width, "mixture_of_depths.inner.width", config.inner.width, remedy)
        capacity, weight = config.capacity, config.weight
        check(
            0 < capacity <= 1, "mixture_of_depths.capacity", capacity, "must be above 0 and at most 1; 0.125 is usual"
        )
        check(weight in WEIGHTS, "mixture_of_depths.weight", weight, suggest(str(weight), WEIGHTS))
        rate = config.router_learning_rate
        check(rate > 0, "mixture_of_depths.router_learning_rate", rate, "must be positive; 0.1 is usual")
        self.hints = {"router": Hint(learning_rate=rate, matrix=False)}  # one row
        self.capacity, self.weigh = capacity, WEIGHTS[weight]
        self.router = nn.Linear(config.width, 1, bias=False)
        self.rule = config.rule.build(config.width)
        self.inner = config.inner.build()

    def forward(
        self, x_BTD: Float[Tensor, "b t d"], span: Span, state: Any = None
    ) -> tuple[Float[Tensor, "b t d"], Any]:
        routed_BT = self.choose_and_teach(x_BTD, span) if self.training else self.choose(x_BTD, span)
        span.observe("depths/routed", routed_BT)
        span.observe(self.shown_share, span.share(routed_BT))
        known = self.training and span.plain  # without looking into a tensor
        counts = [share(self.capacity, x_BTD.shape[1])] * len(x_BTD) if known else routed_BT.sum(1).tolist()
        if not max(counts):
            return x_BTD, state
        routed = Routed.of(routed_BT, counts, span)
        x_BRD = routed.take(x_BTD)
        y_BRD, state = self.inner(x_BRD, routed.span, state)
        weight_BR1 = self.weigh(score(self.router, x_BRD)).to(x_BRD.dtype)[..., None]
        return routed.put(x_BTD, torch.lerp(x_BRD, y_BRD.to(x_BRD.dtype), weight_BR1)), state

    def choose(self, x_BTD: Float[Tensor, "b t d"], span: Span) -> Bool[Tensor, "b t"]:
        """Who is routed in a stream: causal, each position for itself."""
        routed_BT = (self.rule(x_BTD, self.router) > 0) | first(span)
        return routed_BT if span.real_BT is None else routed_BT & span.real_BT

    def choose_and_teach(self, x_BTD: Float[Tensor, "b t d"], span: Span) -> Bool[Tensor, "b t"]:
        """Who is routed in training: each document's best. The rule is taught them, and shows how well it does."""
        with torch.no_grad():
            score_BT = score(self.router, x_BTD)
        routed_BT = best(score_BT, self.capacity, span)
        logit_BT = self.rule(x_BTD, self.router)
        span.report("depths/rule", self.rule.loss(logit_BT, routed_BT, span.real_BT))
        agrees_BT = (logit_BT > 0) == routed_BT
        span.observe("depths/accuracy", agrees_BT if span.real_BT is None else agrees_BT[span.real_BT])
        span.observe("depths/routed_by_rule", logit_BT > 0)
        return routed_BT

    def flops(self, T: int) -> int:
        """Of as many positions as are routed; the rule looks at all."""
        return self.rule.flops(T) + at_mean(self._routed_flops, self._routed(T))

    def state_bytes(self, T: int) -> int:
        """Of as many positions as are routed."""
        return at_mean(self.inner.state_bytes, self._routed(T))

    def _routed(self, T: int) -> float | int:
        """How many of T positions: nominally the share C, rounded up."""
        return share(self.capacity, T) if self.share is None else T * self.share

    def _routed_flops(self, R: int) -> int:
        return linear_flops(self.router, T=R) + self.inner.flops(R)

    def residual_writers(self) -> list[nn.Linear]:
        return self.inner.residual_writers()
