"""The weights of a model as named tensors, and the fingerprint that tells models apart."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from everlong.core.accounting import parameter_hints
from everlong.core.errors import CheckpointError
from everlong.data import Codec
from everlong.model.language_model import LanguageModel


def weights(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and persistent buffers by name, contiguous; one that has several names (tied) comes once.

    Tensors that share memory in part are copied, so that each can be saved on its own.
    """
    found: dict[str, Tensor] = {}
    seen: set[int] = set()
    storages: set[int] = set()
    for name, tensor in model.state_dict(keep_vars=True).items():
        if id(tensor) in seen:
            continue
        seen.add(id(tensor))
        storage = tensor.untyped_storage().data_ptr()
        found[name] = tensor.detach().clone() if storage in storages else tensor.detach().contiguous()
        storages.add(storage)
    return found


def tables(model: nn.Module) -> dict[str, nn.Parameter]:
    """The tables of a model, whose gradients are sparse, by name; they are saved row by row, see `table_files`."""
    return {name: parameter for name, parameter, hint in parameter_hints(model) if hint.sparse}


def dense_weights(model: nn.Module) -> dict[str, Tensor]:
    """`weights` without the tables."""
    rows = tables(model)
    return {name: tensor for name, tensor in weights(model).items() if name not in rows}


def load_weights(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Copies saved weights into a model, whose tables are left alone.

    Raises:
        CheckpointError: a tensor is missing, not known, or of another shape or type; nothing was changed then.
    """
    own = {name: tensor for name, tensor in model.state_dict(keep_vars=True).items() if name in dense_weights(model)}
    for name in sorted(own.keys() ^ tensors.keys()):
        remedy = "is in the model only" if name in own else "is in the checkpoint only"
        raise CheckpointError("weights", name, f"{remedy}: it is of another model")
    for name, tensor in tensors.items():
        told, wanted = (f"{x.dtype} {list(x.shape)}" for x in (tensor, own[name]))
        if told != wanted:
            raise CheckpointError(f"weights.{name}", told, f"is {wanted} in the model: it is of another model")
    with torch.no_grad():
        for name, tensor in tensors.items():
            own[name].copy_(tensor)


def model_fingerprint(model: LanguageModel, codec: Codec) -> str:
    """SHA-256 of all that a model's predictions of bytes depend on, in hexadecimal: its configuration, its weights
    (names, types, shapes, bytes) and its codec. It does not depend on where they were saved or loaded."""
    digest = hashlib.sha256(json.dumps([model.config.to_dict(), codec.fingerprint()], sort_keys=True).encode())
    for name, tensor in sorted(weights(model).items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).cpu().numpy().data)
    return digest.hexdigest()
