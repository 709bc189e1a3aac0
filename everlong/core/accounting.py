"""Accounting: what a model costs, and which parameters are trained how."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from torch import nn


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
    matrices decay, as the matrices in them would; torch's Muon takes no stacks, so they are no matrices either."""
    seen: set[nn.Parameter] = set()
    for name, parameter, hint in _walk(model, "", Hint()):
        if parameter not in seen:
            seen.add(parameter)
            decay, matrix = hint.decay and _holds_matrices(parameter), hint.matrix and parameter.ndim == 2
            yield name, parameter, replace(hint, decay=decay, matrix=matrix)


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
