"""Checkpoints of Hugging Face transformers, loaded and saved by renaming; nothing is unpickled and no code is run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from everlong.core.config import suggest
from everlong.core.errors import CheckpointError
from everlong.model.huggingface.granite import GRANITE
from everlong.model.huggingface.llama import BAMBA, LLAMA
from everlong.model.huggingface.mamba import MAMBA1, MAMBA2
from everlong.model.huggingface.scheme import Scheme, Settings, rows
from everlong.model.language_model import LanguageModel

SCHEMES = {scheme.kind: scheme for scheme in (MAMBA2, MAMBA1, BAMBA, GRANITE, LLAMA)}
CLASSES = {
    "mamba2": "Mamba2",
    "mamba": "Mamba",
    "bamba": "Bamba",
    "granitemoehybrid": "GraniteMoeHybrid",
    "llama": "Llama",
}
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"


def load_huggingface(folder: str | Path) -> LanguageModel:
    """The model of a checkpoint folder: `config.json` and safetensors, in one file or several.

    Raises:
        CheckpointError: a file is missing or damaged, the architecture is not known, or its settings or tensors are
            such as Everlong cannot express.
    """
    folder = Path(folder)
    settings = _json(folder / "config.json")
    files = [WEIGHTS]
    if (folder / INDEX).exists():
        files = sorted(set(_json(folder / INDEX)["weight_map"].values()))
    tensors: dict[str, Tensor] = {}
    for file in files:
        try:
            tensors |= load_file(folder / file)
        except (OSError, SafetensorError) as error:
            remedy = f"not a readable safetensors file ({error}); save the checkpoint as safetensors"
            raise CheckpointError("checkpoint", str(folder / file), remedy) from error
    return from_huggingface(settings, tensors)


def save_huggingface(model: LanguageModel, folder: str | Path) -> None:
    """Writes a folder that transformers loads.

    Raises:
        CheckpointError: transformers has no architecture that computes what the model does.
    """
    settings, tensors = to_huggingface(model)
    Path(folder).mkdir(parents=True, exist_ok=True)
    (Path(folder) / "config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    save_file(tensors, Path(folder) / WEIGHTS, metadata={"format": "pt"})


def from_huggingface(settings: Settings, tensors: Mapping[str, Tensor]) -> LanguageModel:
    """The model of a checkpoint's settings and tensors, which it takes as they are. Where the head is tied to the
    embedding, the model has a copy of it as its head."""
    kind = settings.get("model_type")
    if kind not in SCHEMES:
        raise CheckpointError("config.json: model_type", kind, suggest(str(kind), SCHEMES))
    config = SCHEMES[kind].read(settings)
    names = SCHEMES[kind].names(config)
    with torch.device("meta"):
        model = config.build()
    tensors = dict(tensors)
    embedding = tensors.get(names["embedding.weight"])
    if settings.get("tie_word_embeddings") and embedding is not None:
        tensors[names["head.weight"]] = embedding.clone()
    _check(model, names, tensors)
    model.load_state_dict(_parted(model, names, tensors), assign=True)
    return model


def to_huggingface(model: LanguageModel) -> tuple[Settings, dict[str, Tensor]]:
    """Settings and tensors of a model, by transformers' names; a head that equals the embedding is left out: tied."""
    scheme, settings = _scheme_of(model.config)
    names, own = scheme.names(model.config), model.state_dict()
    tensors = {theirs: _joined([own[name] for name in ours]) for theirs, ours in rows(names).items()}
    tied = torch.equal(model.head.weight, model.embedding.weight)
    if tied:
        del tensors[names["head.weight"]]
    kind = {"model_type": scheme.kind, "architectures": [f"{CLASSES[scheme.kind]}ForCausalLM"]}
    return kind | settings | {"tie_word_embeddings": tied}, tensors


def _parted(model: LanguageModel, names: Mapping[str, str], tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The parameters by our names; those that share a tensor get rows of their own."""
    own, found = model.state_dict(), {}
    for theirs, ours in rows(names).items():
        parts = tensors[theirs].split([own[name].shape[0] for name in ours])
        found |= zip(ours, parts if len(ours) == 1 else (part.clone() for part in parts), strict=True)
    return found


def _joined(parts: list[Tensor]) -> Tensor:
    return parts[0].contiguous() if len(parts) == 1 else torch.cat(parts)


def _scheme_of(config: LanguageModel.Config) -> tuple[Scheme, Settings]:
    for scheme in SCHEMES.values():
        if (settings := scheme.write(config)) is not None:
            return scheme, settings
    remedy = f"transformers has no architecture that computes this; known: {', '.join(sorted(SCHEMES))}"
    raise CheckpointError("model", type(config.body).kind, remedy)


def _check(model: LanguageModel, names: Mapping[str, str], tensors: Mapping[str, Tensor]) -> None:
    """Raises CheckpointError unless the tensors are exactly the model's parameters."""
    for name in sorted(set(names.values()) ^ tensors.keys()):
        remedy = "is not a tensor of this architecture" if name in tensors else "is missing from the checkpoint"
        raise CheckpointError("checkpoint", name, remedy)
    own = model.state_dict()
    for theirs, ours in rows(names).items():
        first, count = own[ours[0]].shape, sum(own[name].shape[0] for name in ours)
        if tensors[theirs].shape != (count, *first[1:]):
            remedy = f"must be {(count, *first[1:])}, as config.json says"
            raise CheckpointError(f"checkpoint: {theirs}", tuple(tensors[theirs].shape), remedy)


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError("checkpoint", str(path), f"not a readable JSON file ({error})") from error
