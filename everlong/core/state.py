"""`State`: everything the past left behind, as an immutable tree of tensors.

A state is `None` at the start of a stream, then exactly what the last call returned. Every state class is a frozen
dataclass registered as a pytree; its fields are tensors whose first dimension is the batch row, other states,
tuples of states, or `None`. So every function here works on the state of every architecture.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, TypeVar, dataclass_transform

import torch
from jaxtyping import Int64
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.utils import _pytree as pytree

from everlong.core.errors import CheckpointError

S = TypeVar("S")  # any state tree: a State, a tuple of states, a tensor, or None


@dataclass_transform(frozen_default=True)
@dataclasses.dataclass(frozen=True, eq=False)
class State:
    """Base of every state. Subclasses declare tensor fields; they become frozen dataclasses and pytree nodes."""

    registry: ClassVar[dict[str, type[State]]] = {}

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        dataclasses.dataclass(frozen=True, eq=False)(cls)
        pytree.register_dataclass(cls, field_names=[field.name for field in dataclasses.fields(cls)])
        State.registry[cls.__qualname__] = cls


def map_state(function: Callable[[Tensor], Tensor], state: S) -> S:
    """Applies `function` to every tensor of a state."""
    return pytree.tree_map(lambda leaf: function(leaf) if isinstance(leaf, Tensor) else leaf, state)


def state_tensors(state: Any) -> list[Tensor]:
    """The tensors of a state, in a fixed order."""
    return [leaf for leaf in pytree.tree_leaves(state) if isinstance(leaf, Tensor)]


def state_bytes(state: Any) -> int:
    """Bytes of memory that a state keeps alive: whole storages, each counted once, so that a small view which
    pins a large buffer counts as the buffer."""
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in state_tensors(state)}
    return sum(storages.values())


def detach(state: S) -> S:
    """The same state, cut from the autograd graph (truncated backpropagation through time)."""
    return map_state(Tensor.detach, state)


def move(state: S, device: torch.device | str) -> S:
    """The same state on another device."""
    return map_state(lambda tensor: tensor.to(device), state)


def select_rows(state: S, rows_N: Int64[Tensor, " n"]) -> S:
    """The state of batch rows `rows_N`, in that order; repeats fork a row (beam search, sampling n continuations)."""
    return map_state(lambda tensor: tensor.index_select(0, rows_N.to(tensor.device)), state)


def repeat_rows(state: S, times: int) -> S:
    """Every batch row `times` times: row b becomes rows b*times .. b*times + times - 1."""
    return map_state(lambda tensor: tensor.repeat_interleave(times, dim=0), state)


def save_state(state: Any, path: str | Path) -> None:
    """Writes a state as one safetensors file (tensors, and the tree's shape as JSON in the header), atomically.

    Raises:
        CheckpointError: the file cannot be written; one that stood there before is untouched.
    """
    tensors: dict[str, Tensor] = {}
    tree = _describe(state, "state", tensors)
    path = Path(path)
    temporary = path.with_name(path.name + ".partial")
    try:
        save_file(tensors, temporary, metadata={"tree": json.dumps(tree)})
        os.replace(temporary, path)
    except (OSError, SafetensorError) as error:
        temporary.unlink(missing_ok=True)
        raise CheckpointError("state", str(path), f"cannot be written ({error}); free space or move it") from error


def load_state(path: str | Path, device: torch.device | str = "cpu") -> Any:
    """Reads what `save_state` wrote.

    Raises:
        CheckpointError: the file is missing, damaged, or holds a state class that this version does not know.
    """
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            tree = json.loads((file.metadata() or {})["tree"])
            return _rebuild(tree, file.get_tensor)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError("state", str(path), f"not a readable state file ({error}); save it again") from error


def _describe(node: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """The JSON shape of a state tree; its tensors are put in `tensors` under their path."""
    if node is None:
        return None
    if isinstance(node, Tensor):
        tensors[name] = node.detach().contiguous().clone()
        return {"tensor": name}
    if isinstance(node, tuple):
        return {"tuple": [_describe(item, f"{name}.{i}", tensors) for i, item in enumerate(node)]}
    fields = {f.name: _describe(getattr(node, f.name), f"{name}.{f.name}", tensors) for f in dataclasses.fields(node)}
    return {"state": type(node).__qualname__, "fields": fields}


def _rebuild(tree: Any, read: Callable[[str], Tensor]) -> Any:
    if tree is None:
        return None
    if "tensor" in tree:
        return read(tree["tensor"])
    if "tuple" in tree:
        return tuple(_rebuild(item, read) for item in tree["tuple"])
    cls = State.registry[tree["state"]]
    return cls(**{name: _rebuild(item, read) for name, item in tree["fields"].items()})
