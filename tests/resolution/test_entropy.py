"""Chunks by a small model's doubt: the definition, the threshold that fits a text, and how its weights travel."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import everlong
from everlong import LanguageModel
from everlong.core.errors import CheckpointError, ConfigError, ContextError, DataError
from everlong.data import ByteCodec
from everlong.generate import entropy_chunker, entropy_threshold
from everlong.generate.doubt import Constraint, entropies
from everlong.model.entropy import EntropyRise, EntropyThreshold
from everlong.train import DataConfig, Trainer, load_run, train
from everlong.train.optimizers import AdamW
from everlong.train.weights import weights

CODEC = ByteCodec()
TEXT = bytes(np.random.default_rng(0).integers(97, 123, size=210, dtype=np.uint8))
SHAPE: dict[str, Any] = {"layers": 1, "width": 16, "heads": 2, "outer_width": 16, "outer_layers": 1, "head_size": 8}


def small(seed: int = 0, vocabulary: int = 259) -> LanguageModel:
    """A model that is in doubt here and there."""
    torch.manual_seed(seed)
    model = everlong.build("window:nano", layers=1, width=16, heads=2, vocabulary=vocabulary)
    model.head.weight.data.mul_(30)
    return model


def saved(model: LanguageModel, path: Path) -> str:
    save_file(weights(model), path)
    return str(path)


def outer(chunker: EntropyThreshold.Config) -> LanguageModel:
    return everlong.build("hnet:nano", chunker=chunker, **SHAPE)


def opened(model: LanguageModel) -> list[bool]:
    """Where a model opens chunks in the text, at the positions that foretell its bytes."""
    ids = torch.tensor([[CODEC.bos, *TEXT[:-1]]])
    return model(ids).observed["chunks/opened"][0][0].tolist()


KINDS: dict[Constraint, type[EntropyThreshold]] = {"global": EntropyThreshold, "monotonic": EntropyRise}


@pytest.mark.parametrize("constraint", KINDS)
@pytest.mark.parametrize("rate", [1.0, 3.0, 7.5, 50.0])
def test_the_threshold_gives_the_wished_rate(tmp_path: Path, constraint: Constraint, rate: float) -> None:
    """What is picked on a text opens as many chunks in it, where the definition says."""
    model = small()
    threshold = entropy_threshold(model, CODEC, [TEXT], bytes_per_chunk=rate, constraint=constraint)
    numbers: dict[str, Any] = {"bytes_per_chunk": rate, "weights": saved(model, tmp_path / "small.safetensors")}
    found = opened(outer(KINDS[constraint].Config(width=16, model=model.config, threshold=threshold, **numbers)))
    doubt_T = entropies(model, CODEC, TEXT)
    score_T = doubt_T if constraint == "global" else doubt_T - np.concatenate([[0], doubt_T[:-1]])
    assert found == [t == 0 or bool(score > threshold) for t, score in enumerate(score_T)]
    assert sum(found) == round(len(TEXT) / rate)


def test_entropies_are_those_of_the_distribution() -> None:
    model = small()
    with torch.no_grad():
        p_TV = model(torch.tensor([[CODEC.bos, *TEXT[:-1]]])).logits[0].double().softmax(-1)
    expected = [-sum(p * math.log2(p) for p in p_V if p > 0) for p_V in p_TV.tolist()]
    np.testing.assert_allclose(entropies(model, CODEC, TEXT, chunk=50), expected, atol=1e-5)
    assert max(expected) - min(expected) > 1


def test_thresholds_of_several_texts_and_of_none() -> None:
    model = small()
    texts = [TEXT[:40], b"", TEXT[40:100]]
    threshold = entropy_threshold(model, CODEC, texts, bytes_per_chunk=4.0)
    doubts = [entropies(model, CODEC, text) for text in texts]
    assert sum((d > threshold)[1:].sum() + 1 for d in doubts if len(d)) == 25
    with pytest.raises(DataError, match="texts = 'empty'"):
        entropy_threshold(model, CODEC, [b""], bytes_per_chunk=4.0)
    with pytest.raises(DataError, match="chunks = 1: is less than 2 documents open already"):
        entropy_threshold(model, CODEC, [b"ab", b"cd"], bytes_per_chunk=4.0)
    with pytest.raises(ConfigError, match=r"bytes_per_chunk = 0\.5"):
        entropy_threshold(model, CODEC, [b"ab"], bytes_per_chunk=0.5)


def doubting(**changes: Any) -> EntropyThreshold.Config:
    numbers = {"width": 16, "model": small().config, "threshold": 3.0, "bytes_per_chunk": 4.0}
    return EntropyThreshold.Config(**{**numbers, **changes})


def test_the_small_model_is_frozen() -> None:
    """It takes no gradient, no optimizer has it, and it streams while the whole trains."""
    model = outer(doubting())
    chunker: Any = model.body.chunker  # type: ignore[union-attr]
    optimizer = AdamW.Config().build(model)
    assert not [name for name in optimizer.names.values() if ".chunker." in name]
    assert [name for name in dict(model.named_parameters()) if ".chunker.model." in name]
    model.train()
    assert chunker.training
    assert not any(module.training for module in chunker.model.modules())
    model(torch.randint(256, (2, 30))).logits.square().mean().backward()
    assert all(parameter.grad is None for parameter in chunker.parameters())
    assert all(p.grad is not None for name, p in model.named_parameters() if "chunker" not in name)


def test_weights_travel_in_checkpoints(tmp_path: Path) -> None:
    """The file is needed where the model is built anew, and no more once there is a checkpoint of the whole."""
    texts = tmp_path / "texts"
    texts.mkdir()
    for i in range(4):
        (texts / f"{i}.txt").write_bytes(TEXT[i:] * 3)
    data = DataConfig(sources=(str(texts),), validation_sources=(str(texts / "0.txt"),))
    training = Trainer.Config(steps=2, window=32, batch=2)
    cache = tmp_path / "cache"
    train(small().config, training, folder=tmp_path / "small", data=data, cache=cache)
    chunker = entropy_chunker(tmp_path / "small", [TEXT], width=16, bytes_per_chunk=4.0)
    config = everlong.config("hnet:nano", chunker=chunker, **SHAPE)
    train(config, training, folder=tmp_path / "whole", data=data, cache=cache)
    expected = weights(load_run(tmp_path / "small").model)
    before = opened(load_run(tmp_path / "whole").model)
    assert 1 < sum(before) < len(before)
    (tmp_path / "small").rename(tmp_path / "gone")
    model = load_run(tmp_path / "whole").model
    assert opened(model) == before
    found = weights(model.body.chunker.model)  # type: ignore[union-attr,arg-type]
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    with pytest.raises(CheckpointError, match="was not there when this model was built: restore it, or load"):
        opened(config.build())
    with torch.device("meta"):
        config.build()  # to weigh it


def test_files_of_another_model(tmp_path: Path) -> None:
    path = saved(everlong.build("window:nano", layers=2, width=16, heads=2), tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match=r"is of another model: body\.blocks\.1\."):
        doubting(weights=path).build()
    (tmp_path / "damaged.safetensors").write_bytes(b"nothing of the kind")
    with pytest.raises(CheckpointError, match=r"entropy\.weights = .*damaged.*cannot be read"):
        doubting(weights=str(tmp_path / "damaged.safetensors")).build()


def test_tied_weights_are_saved_once(tmp_path: Path) -> None:
    shape = {"local_layers": 1, "local_width": 8, "local_heads": 2, "width": 16, "heads": 2, "patch": 2}
    tied = everlong.build("megabyte:nano", layers=1, **shape)
    part = doubting(model=tied.config, weights=saved(tied, tmp_path / "tied.safetensors")).build()
    assert torch.equal(part.model.head.weight, tied.embedding.weight)


def test_another_vocabulary(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"chunker\.vocabulary = 300: is that of the model which decides"):
        outer(doubting(model=small(vocabulary=300).config))
    model = small(vocabulary=100)
    config = everlong.config("hnet:nano", chunker=doubting(), **SHAPE)
    body = config.body.replace(chunker=doubting(model=model.config))  # built by hand, without the preset's check
    with pytest.raises(ContextError, match=r"must lie in 0 \.\. 99"):
        config.replace(body=body).build()(torch.tensor([[150]]))


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "rate": ({"bytes_per_chunk": 0.5}, r"entropy\.bytes_per_chunk = 0\.5"),
    "threshold": ({"threshold": math.nan}, r"entropy\.threshold = nan"),
}


@pytest.mark.parametrize("name", WRONG)
def test_errors(name: str) -> None:
    changes, message = WRONG[name]
    with pytest.raises(ConfigError, match=message):
        doubting(**changes).build()
