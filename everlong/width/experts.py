"""Mixture of experts (Shazeer et al. 2017, arXiv 1701.06538): every position is processed by a few of many.

Legend: B batch rows, T positions, N real ones among them, M = N k choices, J of them computed, E experts, k active,
D width, F size of an expert's gated layer.

With scores s = sigmoid(W x) or softmax(W x), and the k experts of the largest s_e (+ b_e, see `experts_balance.py`),

    y = c sum_{e chosen} s_e / (sum_{e' chosen} s_e') f_e(x) + f_shared(x),        f_e = SwiGLU,

in DeepSeek-V3's form (arXiv 2412.19437, eq. 12-16): the bias is for choosing only, the weights are normalised over the
chosen, S shared experts see every position (they are one SwiGLU S times as large). With k = 1 the weight is the score
itself (Fedus et al. 2021, arXiv 2101.03961, eq. 2), for a normalised one would be 1 and teach the router nothing.

No position is ever dropped and none waits for another: the choices are sorted by expert, multiplied group by group, and
summed where they came from. Padding is neither routed nor counted. Scores and weights are computed in float32 or
better.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from everlong.core.accounting import Hint, linear_flops
from everlong.core.config import check, suggest
from everlong.core.exact import exactly
from everlong.core.part import Part
from everlong.core.span import Span
from everlong.kernels.choices import rows_of, sum_of
from everlong.kernels.gated import gated
from everlong.kernels.grouped import grouped_product
from everlong.width.experts_balance import Balance, BiasBalance, overload
from everlong.width.swiglu import SwiGLU

SCORES: dict[str, Callable[[Tensor], Tensor]] = {"sigmoid": torch.sigmoid, "softmax": lambda x: x.softmax(-1)}
"""What makes scores of the router's logits, by name."""


class ExpertLinear(nn.Linear):
    """A linear layer of every expert, x W_e, drawn as `nn.Linear` draws its one; the weight is (experts, in, out)."""

    def __init__(self, experts: int, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, bias=False)
        bound = inputs**-0.5
        self.weight = nn.Parameter(torch.empty(experts, inputs, outputs).uniform_(-bound, bound))

    def forward(  # type: ignore[override]  # rows come with their experts
        self, x_MD: Float[Tensor, "m d"], count_E: Int64[Tensor, " e"]
    ) -> Float[Tensor, "m f"]:
        """Each of the rows, which stand expert by expert, by its expert's matrix."""
        return grouped_product(x_MD, self.weight, count_E)


class Experts(Part):
    """Routed and shared experts. Stateless."""

    hints = {"router": Hint(matrix=False)}  # noqa: RUF012  # its rows score experts, as a head's score tokens

    class Config(Part.Config):
        experts: int
        """E, to choose from."""
        active: int
        """k, chosen at every position."""
        hidden: int
        """F, size of the gated layer of each."""
        shared: int = 0
        """Experts that see every position besides."""
        score: str = "sigmoid"
        """How scores are made: a name of `SCORES`."""
        scale: float = 1.0
        """c, factor of the chosen experts' sum."""
        balance: Balance.Config = BiasBalance.Config()
        """What keeps the load even."""

        @property
        def choices(self) -> int:
            """What a router has a score for."""
            return self.experts

    def __init__(self, config: Experts.Config) -> None:
        super().__init__()
        for name, least in (("width", 1), ("experts", 1), ("hidden", 1), ("shared", 0)):
            value = getattr(config, name)
            check(value >= least, f"experts.{name}", value, f"must be at least {least}")
        remedy = f"must lie between 1 and the number of experts, {config.choices}"
        check(1 <= config.active <= config.choices, "experts.active", config.active, remedy)
        check(config.score in SCORES, "experts.score", config.score, suggest(str(config.score), SCORES))
        check(config.scale > 0, "experts.scale", config.scale, "must be above 0; 1 is usual")
        self.experts, self.active, self.scale = config.experts, config.active, config.scale
        self.score = SCORES[config.score]
        self.router = nn.Linear(config.width, config.choices, bias=False)
        self.balance = config.balance.build(config.choices)
        self.input = ExpertLinear(config.experts, config.width, 2 * config.hidden)  # gate and input, side by side
        self.out = ExpertLinear(config.experts, config.hidden, config.width)
        common = SwiGLU.Config(width=config.width, hidden=config.shared * config.hidden)
        self.common = common.build() if config.shared else None

    def forward(
        self, x_BTD: Float[Tensor, "b t d"], span: Span, state: None = None
    ) -> tuple[Float[Tensor, "b t d"], None]:
        if span.real_BT is None:
            y_BTD = self.mix(x_BTD.flatten(0, 1), span).view(x_BTD.shape)
        else:
            y_ND = self.mix(x_BTD[span.real_BT], span)
            y_BTD = y_ND.new_zeros(x_BTD.shape).index_put((span.real_BT,), y_ND)
        if self.common is not None:
            y_BTD = y_BTD + self.common(x_BTD, span)[0]
        return y_BTD, None

    def mix(self, x_ND: Float[Tensor, "n d"], span: Span) -> Float[Tensor, "n d"]:
        """The weighted sum of the chosen experts, for positions in any order."""
        score_NE = self.score(exactly(self.router, x_ND))
        chosen_NK = self.choose(score_NE)
        flat_M = chosen_NK.flatten()
        count_E = flat_M.new_zeros(score_NE.shape[1]).scatter_add(0, flat_M, torch.ones_like(flat_M))
        self.tell(score_NE, count_E, span)
        weight_NK = score_NE.gather(1, chosen_NK)
        if self.active > 1:
            weight_NK = weight_NK / weight_NK.sum(-1, keepdim=True).clamp(min=1e-20)
        return self.process(x_ND, chosen_NK, self.scale * weight_NK, count_E)

    def choose(self, score_NE: Float[Tensor, "n e"]) -> Int64[Tensor, "n k"]:
        """The experts of every position, by its scores."""
        return self.balance.preferred(score_NE).topk(self.active).indices

    def process(
        self,
        x_ND: Float[Tensor, "n d"],
        chosen_NK: Int64[Tensor, "n k"],
        weight_NK: Float[Tensor, "n k"],
        count_E: Int64[Tensor, " e"],
    ) -> Float[Tensor, "n d"]:
        """What the chosen experts make of each position, weighted: sorted by expert, computed, and summed."""
        order_J, count_E = self.computing(chosen_NK.flatten().argsort(stable=True), count_E)
        y_JD = self.compute(x_ND, order_J, weight_NK, count_E)
        return sum_of(y_JD, order_J, self.active, len(x_ND))

    def computing(self, order_M: Int64[Tensor, " m"], count_E: Int64[Tensor, " e"]) -> tuple[Tensor, Tensor]:
        """Of choices that stand expert by expert, and how many each has, those of experts that compute: all."""
        return order_M, count_E

    def compute(
        self,
        x_ND: Float[Tensor, "n d"],
        order_J: Int64[Tensor, " j"],
        weight_NK: Float[Tensor, "n k"],
        count_E: Int64[Tensor, " e"],
    ) -> Float[Tensor, "j d"]:
        """The answers to choices that stand expert by expert. The weight is applied before the last product, where
        there is less to multiply."""
        weight_J = weight_NK.flatten().index_select(0, order_J)
        return self.out(gated(self.input(rows_of(x_ND, order_J, self.active), count_E), weight_J), count_E)

    def tell(self, score_NE: Float[Tensor, "n e"], count_E: Int64[Tensor, " e"], span: Span) -> None:
        """Shows the load, and in training adds what keeps it even."""
        load_E = overload(count_E) + 1
        span.observe("experts/load", load_E)
        span.observe("experts/highest_load", load_E.max())
        if self.training:
            span.report("experts/balance", self.balance.loss(score_NE, count_E))

    @property
    def idle_parameters(self) -> int:
        """Parameters that a position leaves out."""
        weights = (self.input.weight, self.out.weight)
        return sum(weight.numel() // self.experts * (self.experts - self.active) for weight in weights)

    def flops(self, T: int) -> int:
        """Of the active experts; the same for every choice."""
        one = self.input.weight[0].numel() + self.out.weight[0].numel()
        common = 0 if self.common is None else self.common.flops(T)
        return linear_flops(self.router, T=T) + 2 * T * self.active * one + common

    def state_bytes(self, T: int) -> int:
        return 0

    def residual_writers(self) -> list[nn.Linear]:
        return [self.out] if self.common is None else [self.out, *self.common.residual_writers()]
