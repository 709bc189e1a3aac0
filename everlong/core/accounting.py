"""Accounting: what a model costs, and which parameters are trained how."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from torch import nn

from everlong.core.errors import DataError
from everlong.core.span import label


def linear_flops(*layers: nn.Linear, T: int) -> int:
    """Forward FLOPs of linear layers over T positions; a multiply-add is two."""
    return sum(2 * T * layer.in_features * layer.out_features for layer in layers)


def element_bytes(module: nn.Module) -> int:
    """Bytes of one number in the module's own dtype."""
    return next(module.parameters()).element_size()


def parameter_count(module: nn.Module) -> int:
    """Number of parameters, tied ones counted once."""
    return sum(parameter.numel() for parameter in module.parameters())


def active_parameter_count(module: nn.Module) -> int:
    """Number of parameters that a position makes use of: all but those that a module inside says are left out, by an
    attribute `idle_parameters`, such as experts that were not chosen."""
    return parameter_count(module) - sum(getattr(inner, "idle_parameters", 0) for inner in module.modules())


class Chooses:
    """Mixin of modules that choose positions by the data, and cost as much as they choose. Such modules stand in a
    model in the order in which they run."""

    shown_share: ClassVar[str]
    """The name under which it is shown what share of a call's real positions was chosen."""
    share: float | None = None
    """The share for which costs are told; `None`: the nominal one."""


def tell_costs_at(model: nn.Module, shares: Mapping[str, float | int | str]) -> None:
    """Makes the parts that choose by the data tell their costs at the share of positions that they have chosen.

    Args:
        shares: means of what was shown, by label, such as a record of training holds.

    Raises:
        DataError: the share of a part is missing.
    """
    parts: dict[str, list[Chooses]] = {}
    for module in model.modules():
        if isinstance(module, Chooses):
            parts.setdefault(module.shown_share, []).append(module)
    for name, alike in parts.items():
        for i, module in enumerate(alike):
            shown = label(name, i, len(alike))
            if shown not in shares:
                raise DataError("shares", sorted(shares), f"must hold {shown!r}, what a part of the model chooses")
            module.share = float(shares[shown])


def at_mean(cost: Callable[[int], int], T: float | int) -> int:
    """The cost of T positions, where T may be a mean: in between those of the whole numbers beside it."""
    below = math.floor(T)
    low = cost(below)
    return low if below == T else low + round((T - below) * (cost(below + 1) - low))


@dataclass(frozen=True)
class Hint:
    """How a parameter asks to be trained. A module asks through an attribute `hints: dict[str, Hint]`, by the
    name of a direct parameter or child; `""` means the module itself. Multipliers along the path are multiplied."""

    learning_rate: float = 1.0
    """Multiplier of the learning rate."""
    decay: bool = True
    """Whether weight decay applies."""
    matrix: bool = True
    """Whether it is a matrix between hidden spaces, fit for an orthogonalising optimizer (Muon); embeddings and
    output heads are not."""
    sparse: bool = False
    """Whether it is a table whose gradient holds only the rows that were looked up."""

    def within(self, outer: Hint) -> Hint:
        return Hint(
            self.learning_rate * outer.learning_rate,
            self.decay and outer.decay,
            self.matrix and outer.matrix,
            self.sparse or outer.sparse,
        )


def parameter_hints(model: nn.Module) -> Iterator[tuple[str, nn.Parameter, Hint]]:
    """Every parameter once, with its name and hint. Vectors and scalars never decay and are no matrices. Stacks of
    matrices are trained as the matrices in them would be."""
    seen: set[nn.Parameter] = set()
    for name, parameter, hint in _walk(model, "", Hint()):
        if parameter not in seen:
            seen.add(parameter)
            matrices = _holds_matrices(parameter)
            yield name, parameter, replace(hint, decay=hint.decay and matrices, matrix=hint.matrix and matrices)


def _holds_matrices(parameter: nn.Parameter) -> bool:
    """Whether it is a matrix or a stack of them; the kernels of a depthwise convolution are a stack of vectors."""
    return parameter.ndim == 2 or (parameter.ndim == 3 and min(parameter.shape[1:]) > 1)


def _walk(module: nn.Module, prefix: str, outer: Hint) -> Iterator[tuple[str, nn.Parameter, Hint]]:
    hints: dict[str, Hint] = getattr(module, "hints", {})
    own = hints.get("", Hint()).within(outer)
    for name, parameter in module.named_parameters(recurse=False):
        yield prefix + name, parameter, hints.get(name, Hint()).within(own)
    for name, child in module.named_children():
        yield from _walk(child, f"{prefix}{name}.", hints.get(name, Hint()).within(own))
