"""How the load of experts is kept even.

Legend: N positions, E experts, k of them active at a position; c_e positions that chose expert e.

`BiasBalance` (Wang et al. 2024, arXiv 2408.15664) has no loss that disturbs what the model learns: a bias b_e is added
to the scores when experts are chosen, and only then; it sinks while an expert has more than its even load kN/E, and
rises while it has less. The paper adds a fixed step of that sign after each update. Here b is a parameter like any
other, whose gradient is the expert's overload c_e E / (kN) - 1: so it is summed over all pieces of a batch, skipped
with a step that is skipped, saved and resumed, and trained by the optimizer, which makes steps of about its learning
rate of it. The loss that carries this gradient is always 0.

`LossBalance` (Fedus et al. 2021, arXiv 2101.03961, eq. 4-6) adds E sum_e f_e P_e to the loss, with the share f_e of the
choices that fell on e, and e's mean share P_e of the scores. It is 1 when both are even.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from everlong.core.accounting import Hint
from everlong.core.config import Config, Configurable, check


class Balance(nn.Module, Configurable):
    """Keeps the load of E experts even."""

    class Config(Config):
        def build(self, experts: int) -> Balance:
            """The balance of so many experts."""
            return self.builds(self, experts)  # type: ignore[misc]  # set by Configurable

    def __init__(self, config: Balance.Config, experts: int) -> None:
        super().__init__()

    def preferred(self, score_NE: Float[Tensor, "n e"]) -> Float[Tensor, "n e"]:
        """What experts are chosen by: the scores, or scores with a bias."""
        return score_NE

    def loss(self, score_NE: Float[Tensor, "n e"], count_E: Int64[Tensor, " e"]) -> Float[Tensor, ""]:
        """What training adds to the model's loss.

        Args:
            score_NE: scores of every position.
            count_E: positions that chose each expert.
        """
        raise NotImplementedError


class BiasBalance(Balance):
    """A bias on the choice, learnt from the load alone."""

    class Config(Balance.Config):
        learning_rate: float = 0.1
        """Multiplier of the bias's learning rate: its steps are as large whatever the load, and scores lie within 1."""
        weight: float = 1e-3
        """Factor of the bias's gradient: so small that it does not count when gradients are clipped, while AdamW asks
        for no size."""

    def __init__(self, config: BiasBalance.Config, experts: int) -> None:
        super().__init__(config, experts)
        rate = config.learning_rate
        check(rate > 0, "balance.learning_rate", rate, "must be above 0, or the bias never moves")
        check(config.weight > 0, "balance.weight", config.weight, "must be above 0; 0.001 is usual")
        self.weight = config.weight
        self.bias_E = nn.Parameter(torch.zeros(experts))
        self.hints = {"bias_E": Hint(learning_rate=rate, decay=False, matrix=False)}

    def preferred(self, score_NE: Float[Tensor, "n e"]) -> Float[Tensor, "n e"]:
        return score_NE.detach() + self.bias_E.detach()

    def loss(self, score_NE: Float[Tensor, "n e"], count_E: Int64[Tensor, " e"]) -> Float[Tensor, ""]:
        return self.weight * ((self.bias_E - self.bias_E.detach()) * overload(count_E).to(self.bias_E.dtype)).sum()


class LossBalance(Balance):
    """The classic auxiliary loss, through the scores."""

    class Config(Balance.Config):
        weight: float = 0.01
        """Factor of the loss."""

    def __init__(self, config: LossBalance.Config, experts: int) -> None:
        super().__init__(config, experts)
        check(config.weight > 0, "balance.weight", config.weight, "must be above 0; 0.01 is usual")
        self.weight = config.weight

    def loss(self, score_NE: Float[Tensor, "n e"], count_E: Int64[Tensor, " e"]) -> Float[Tensor, ""]:
        share_E = (score_NE / score_NE.sum(-1, keepdim=True)).sum(0) / max(1, len(score_NE))
        return self.weight * ((overload(count_E) + 1) * share_E).sum()


def overload(count_E: Int64[Tensor, " e"]) -> Float[Tensor, " e"]:
    """By how much the load of each expert is above the even one: 0 is even, -1 is none."""
    return count_E.float() * len(count_E) / count_E.sum().clamp(min=1) - 1
