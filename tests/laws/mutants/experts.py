"""What implementations of experts get wrong: each mutant is caught by a law."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from everlong import Span
from everlong.core.exact import exactly
from everlong.width.experts import Experts
from everlong.width.noop_experts import NoOpExperts
from tests.laws.mutants.base import Mutant

NUMBERS: dict[str, Any] = {"width": 8, "hidden": 6, "experts": 4, "active": 2}


class ExpertsChoose(Experts):
    """Every expert takes the positions that score highest with it: even by construction, and it knows the future."""

    def mix(self, x_ND: Tensor, span: Span) -> Tensor:
        score_NE = self.score(exactly(self.router, x_ND))
        places = -(-len(x_ND) * self.active // self.experts)
        least_E = score_NE.topk(places, dim=0).values[-1]
        weight_NE = score_NE * (score_NE >= least_E)
        return torch.stack([weight_NE[:, e, None] * self.alone(e, x_ND) for e in range(self.experts)]).sum(0)

    def alone(self, e: int, x_ND: Tensor) -> Tensor:
        gate_NF, input_NF = (x_ND @ self.input.weight[e]).chunk(2, dim=-1)
        return torch.nn.functional.silu(gate_NF) * input_NF @ self.out.weight[e]


class DropsBeyondCapacity(Experts):
    """An expert takes no more than its even share of a call: who comes later is dropped."""

    def process(self, x_ND: Tensor, chosen_NK: Tensor, weight_NK: Tensor, count_E: Tensor) -> Tensor:
        taken_ME = torch.nn.functional.one_hot(chosen_NK.flatten(), self.experts).cumsum(0)
        rank_NK = taken_ME.gather(1, chosen_NK.flatten()[:, None]).view(chosen_NK.shape)
        kept_NK = rank_NK <= max(1, chosen_NK.numel() // self.experts)
        return super().process(x_ND, chosen_NK, weight_NK * kept_NK, count_E)


class WeighsWithTheBias(Experts):
    """The bias that is for choosing only changes the weights."""

    def __init__(self, config: Experts.Config) -> None:
        super().__init__(config)
        own, balance = self.score, self.balance
        self.score = lambda logit_NE: balance.preferred(own(logit_NE))


class MixesUpItsOrder(Experts):
    """What was sorted by expert is not put back in the order that it came in."""

    def process(self, x_ND: Tensor, chosen_NK: Tensor, weight_NK: Tensor, count_E: Tensor) -> Tensor:
        y_ND = super().process(x_ND, chosen_NK, weight_NK, count_E)
        return y_ND[chosen_NK[:, 0].argsort(stable=True)]


class LeavesTheRouterUntaught(Experts):
    """The scores choose and weigh, and have no gradient."""

    def __init__(self, config: Experts.Config) -> None:
        super().__init__(config)
        own = self.score
        self.score = lambda logit_NE: own(logit_NE.detach())


class DeclaresAllExperts(Experts):
    """Declares the cost of the experts that are not chosen, too."""

    def flops(self, T: int) -> int:
        return super().flops(T) * self.experts // self.active


class NormalisesWithoutNoOps(NoOpExperts):
    """The weights of the experts that compute sum to one, whatever else was chosen: nothing is ever left out."""

    def compute(self, x_ND: Tensor, order_M: Tensor, weight_NK: Tensor, count_E: Tensor) -> Tensor:
        own_NK = torch.zeros(weight_NK.numel()).index_fill(0, order_M, 1.0).view_as(weight_NK).to(weight_NK.dtype)
        total_N1 = (weight_NK * own_NK).sum(-1, keepdim=True)
        return super().compute(x_ND, order_M, weight_NK / total_N1, count_E)


def noops(part: type[NoOpExperts], message: str) -> Mutant:
    return Mutant(part, message, NUMBERS | {"experts": 3, "noops": 3}, NoOpExperts.Config)


def mutant(part: type[Experts], message: str) -> Mutant:
    return Mutant(part, message, NUMBERS, Experts.Config)


NOT_CAUSAL = [mutant(ExpertsChoose, "what comes after")]
NOT_SPLIT_INVARIANT = [mutant(DropsBeyondCapacity, "the output: differs")]
NOT_ISOLATED = [mutant(DropsBeyondCapacity, "itself alone")]
NOT_THE_ORACLE = [
    mutant(WeighsWithTheBias, "against the oracle: the output"),
    mutant(MixesUpItsOrder, "against the oracle: the output"),
    mutant(LeavesTheRouterUntaught, "the gradient of"),
    noops(NormalisesWithoutNoOps, "against the oracle: the output"),
]
NOT_ACCOUNTED = [mutant(DeclaresAllExperts, "FLOPs, declared")]
