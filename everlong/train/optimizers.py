"""Optimizers: torch's own AdamW, and Muon, over groups of parameters that ask to be trained alike.

A part asks through `Hint` (see `core.accounting`): for a multiplier of the learning rate, for no weight decay, or
not to be taken for a matrix between hidden spaces. The rate of a group is base * multiplier * schedule.

    AdamW   Loshchilov & Hutter 2019, arXiv 1711.05101
    Tables  with sparse gradients have an optimizer of their own, whatever that of the rest: `RowwiseAdagrad`, or
            `RowAdam`
    Muon    Jordan et al. 2024, https://kellerjordan.github.io/posts/muon, on hidden matrices and stacks of them
            (`matrix_muon.py`), AdamW on the rest.
            Its updates are scaled by 0.2 sqrt(max(A, B)) to the size of AdamW's (Liu et al. 2025, arXiv
            2502.16982, eq. 4), so that one learning rate and one weight decay serve both.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from everlong.core.accounting import Hint, parameter_hints
from everlong.core.config import Config, Configurable, check
from everlong.core.errors import CheckpointError
from everlong.train.matrix_muon import MatrixMuon
from everlong.train.row_optimizer import RowOptimizer
from everlong.train.rowwise_adagrad import RowwiseAdagrad

Hinted = tuple[str, nn.Parameter, Hint]
"""A parameter's name, itself, and how it asks to be trained."""


class Optimizer(Configurable):
    """One or several torch optimizers that together hold every trained parameter once."""

    class Config(Config):
        learning_rate: float = 3e-3
        """Base rate; groups multiply it."""
        weight_decay: float = 0.1
        """Decoupled decay, of the parameters that do not decline it."""
        betas: tuple[float, float] = (0.9, 0.95)
        """AdamW's memory of the gradient and of its square."""
        epsilon: float = 1e-8
        """AdamW's lower bound of the gradient's size."""
        tables: RowOptimizer.Config = RowwiseAdagrad.Config()
        """How tables learn whose gradients are sparse."""

        def __post_init__(self) -> None:
            rate, decay = self.learning_rate, self.weight_decay
            check(0 < rate < 1e3, "optimizer.learning_rate", rate, "must be above 0 and below 1000; 0.003 is usual")
            check(0 <= decay < 1e3, "optimizer.weight_decay", decay, "must be 0 or more; 0.1 is usual")
            fitting = len(self.betas) == 2 and all(0 <= beta < 1 for beta in self.betas)
            check(fitting, "optimizer.betas", self.betas, "must be two numbers from 0 to below 1, as (0.9, 0.95)")
            check(0 < self.epsilon < 1, "optimizer.epsilon", self.epsilon, "must lie between 0 and 1; 1e-8 is usual")

        def build(self, model: nn.Module) -> Optimizer:
            """The optimizer of a model's parameters."""
            return self.builds(self, model)  # type: ignore[misc]  # set by Configurable

    def __init__(self, config: Optimizer.Config, model: nn.Module) -> None:
        self.config = config
        hinted = [item for item in parameter_hints(model) if item[1].requires_grad]
        check(bool(hinted), "model", type(model).__name__, "has no parameter that requires a gradient")
        self.names: dict[Tensor, str] = {parameter: name for name, parameter, _ in hinted}
        tables = [item for item in hinted if item[2].sparse]
        self.parts = self.make([item for item in hinted if not item[2].sparse])
        self.tables = config.tables.build(self._grouped(tables, config.tables.multiplier)) if tables else None
        """The optimizer of tables, if there are any."""
        self.parts += [] if self.tables is None else [self.tables]
        strongest = max(group["lr"] * group["weight_decay"] for group in self._groups())
        remedy = "learning_rate x multiplier x weight_decay must be at most 1, or the weights grow without bound"
        check(strongest <= 1, "optimizer.weight_decay", config.weight_decay, remedy)

    def make(self, hinted: list[Hinted]) -> list[torch.optim.Optimizer]:
        """The torch optimizers of these parameters."""
        raise NotImplementedError

    @property
    def parameters(self) -> list[Tensor]:
        """Every trained parameter, once."""
        return list(self.names)

    def step(self, factor: float) -> None:
        """One update from the gradients at hand, at `factor` times the base rate.

        Raises:
            CheckpointError: the disk of a table is full; nothing was changed.
        """
        if self.tables is not None:
            self.tables.prepare()
        for group in self._groups():
            group["lr"] = self.config.learning_rate * group["multiplier"] * factor
        for part in self.parts:
            part.step()

    def clear(self) -> None:
        """Lets the gradients go."""
        for part in self.parts:
            part.zero_grad(set_to_none=True)

    def groups(self) -> list[dict[str, Any]]:
        """Who is trained how, as JSON values."""
        return [
            {
                "optimizer": type(part).__name__,
                "multiplier": group["multiplier"],
                "weight_decay": group["weight_decay"],
                "parameters": [self.names[parameter] for parameter in group["params"]],
            }
            for part in self.parts
            for group in part.param_groups
        ]

    def tensors(self) -> dict[str, Tensor]:
        """What it remembers of every parameter, under `<kind>:<name of the parameter>`."""
        return {
            f"{kind}:{self.names[parameter]}": tensor.contiguous()
            for part in self.parts
            for parameter, memory in part.state.items()
            for kind, tensor in memory.items()
        }

    def load(self, tensors: Mapping[str, Tensor], groups: list[dict[str, Any]]) -> None:
        """Takes back what `tensors` and `groups` gave.

        Raises:
            CheckpointError: it is that of another grouping, or of other parameters.
        """
        if groups != self.groups():
            remedy = "trains other parameters, or otherwise: resume with the version of Everlong that saved it"
            raise CheckpointError("optimizer.groups", f"{len(groups)} groups", remedy)
        owners = {name: (part, parameter) for part in self.parts for parameter, name in self._named(part)}
        for key, tensor in tensors.items():
            kind, _, name = key.partition(":")
            if name not in owners:
                raise CheckpointError("optimizer", key, "belongs to no parameter of this model")
            part, parameter = owners[name]
            like = parameter if tensor.shape == parameter.shape else tensor  # fused kernels count on equal strides
            own = torch.empty_like(like, dtype=tensor.dtype, device=parameter.device)  # and no view of a file
            part.state[parameter][kind] = own.copy_(tensor)

    def _groups(self) -> Iterable[dict[str, Any]]:
        return (group for part in self.parts for group in part.param_groups)

    def _named(self, part: torch.optim.Optimizer) -> Iterable[tuple[Tensor, str]]:
        return ((parameter, self.names[parameter]) for group in part.param_groups for parameter in group["params"])

    def _adamw(self, hinted: list[Hinted]) -> torch.optim.Optimizer:
        betas, epsilon = self.config.betas, self.config.epsilon
        return torch.optim.AdamW(self._grouped(hinted), betas=betas, eps=epsilon, fused=True)

    def _grouped(self, hinted: list[Hinted], times: float = 1.0) -> list[dict[str, Any]]:
        """Torch's groups, one for every way to be trained that is asked for, all at `times` the rate."""
        alike: dict[tuple[float, bool], list[nn.Parameter]] = {}
        for _, parameter, hint in hinted:
            alike.setdefault((times * hint.learning_rate, hint.decay), []).append(parameter)
        return [
            {
                "params": parameters,
                "multiplier": multiplier,
                "lr": self.config.learning_rate * multiplier,
                "weight_decay": self.config.weight_decay if decay else 0.0,
            }
            for (multiplier, decay), parameters in alike.items()
        ]


class AdamW(Optimizer):
    """AdamW for every parameter."""

    class Config(Optimizer.Config):
        pass

    def make(self, hinted: list[Hinted]) -> list[torch.optim.Optimizer]:
        return [self._adamw(hinted)]


class Muon(Optimizer):
    """Muon for the matrices between hidden spaces, AdamW for embeddings, heads, vectors and the rest."""

    class Config(Optimizer.Config):
        momentum: float = 0.95
        """Muon's memory of the gradient."""

        def __post_init__(self) -> None:
            super().__post_init__()
            check(0 <= self.momentum < 1, "optimizer.momentum", self.momentum, "must be from 0 to below 1")

    config: Muon.Config

    def make(self, hinted: list[Hinted]) -> list[torch.optim.Optimizer]:
        matrices, others = ([item for item in hinted if item[2].matrix == matrix] for matrix in (True, False))
        check(bool(matrices), "optimizer", "Muon", "finds no hidden matrix in this model: use AdamW")
        muon = MatrixMuon(self._grouped(matrices), momentum=self.config.momentum)
        return [muon, self._adamw(others)] if others else [muon]
