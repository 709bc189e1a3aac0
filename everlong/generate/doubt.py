"""Picking the threshold at which a small model's doubt opens chunks (`everlong.model.entropy`).

Legend: T tokens of one document, V vocabulary.

The entropies of all positions are those of one run of the small model, and what opens a chunk is each of them alone; so
the threshold that gives a wished number of chunks on given texts lies between two of them, and is found exactly.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float64

from everlong.core.config import check
from everlong.core.errors import DataError
from everlong.data import ByteCodec, Codec
from everlong.generate.stream import Stream, check_codec, finite
from everlong.model.entropy import EntropyRise, EntropyThreshold
from everlong.model.language_model import LanguageModel
from everlong.train import load_run
from everlong.train.checkpoints import Checkpoints
from everlong.train.run import CHECKPOINTS
from everlong.train.snapshot import MODEL

Constraint = Literal["global", "monotonic"]
"""Whether the entropy itself must exceed the threshold, or its rise."""


def entropies(model: LanguageModel, codec: Codec, text: bytes, *, chunk: int = 2048) -> Float64[np.ndarray, " _"]:
    """Bits of doubt before each token of a text, which is read as one document.

    Args:
        chunk: most tokens of one call; it changes speed and memory, not the numbers.

    Raises:
        ConfigError: the codec is not the model's.
        EverlongError: the model's numbers are not finite.
    """
    check_codec(model, codec)
    stream, ids_T = Stream(model, codec.bos), torch.from_numpy(codec.encode(text))
    found, begin = [np.empty(0)], 0
    while begin < len(ids_T):
        part_T = ids_T[begin : begin + min(chunk, stream.room)]
        p_TV = finite(stream.follow(part_T[None]))[0].double().softmax(-1)
        found.append((torch.special.entr(p_TV).sum(-1) / math.log(2)).cpu().numpy())
        begin += len(part_T)
    return np.concatenate(found)


def entropy_threshold(
    model: LanguageModel,
    codec: Codec,
    texts: Iterable[bytes],
    *,
    bytes_per_chunk: float,
    constraint: Constraint = "global",
) -> float:
    """The threshold, in bits, at which texts have as many bytes a chunk as wished; tokens, if the model reads those.

    Args:
        texts: each one document; its first token opens a chunk in any case.
        bytes_per_chunk: over all texts.

    Raises:
        ConfigError: `bytes_per_chunk` is below 1, or the codec is not the model's.
        DataError: there is no text, or a chunk a document is more than is wished already.
    """
    check(bytes_per_chunk >= 1, "bytes_per_chunk", bytes_per_chunk, "must be at least 1")
    positions, documents, candidates = 0, 0, [np.empty(0)]
    for text in texts:
        doubt_T = entropies(model, codec, text)
        if not len(doubt_T):
            continue
        candidates.append(doubt_T[1:] if constraint == "global" else np.diff(doubt_T))
        positions, documents = positions + len(doubt_T), documents + 1
    if not positions:
        raise DataError("texts", "empty", "hold nothing: give texts like those that will be learnt from")
    wanted = round(positions / bytes_per_chunk) - documents
    if wanted < 0:
        remedy = f"is less than {documents} documents open already: give longer ones, or fewer bytes a chunk"
        raise DataError("chunks", wanted + documents, remedy)
    return _between(np.sort(np.concatenate(candidates))[::-1], wanted)


def _between(falling: np.ndarray, count: int) -> float:
    """What `count` numbers exceed, as nearly as equal ones allow."""
    if count >= len(falling):
        return float(falling[-1]) - 1.0 if len(falling) else 0.0
    if count == 0:
        return float(falling[0])
    return float(falling[count - 1] + falling[count]) / 2


def entropy_chunker(
    run: str | Path,
    texts: Iterable[bytes],
    *,
    width: int,
    bytes_per_chunk: float,
    constraint: Constraint = "global",
    codec: Codec | None = None,
) -> EntropyThreshold.Config:
    """The chunker whose small model is that of a run, at the threshold that fits texts.

    `everlong.config("hnet:tiny", chunker=entropy_chunker("runs/small", texts, width=128, bytes_per_chunk=5.0))` is the
    model that hears its chunks.

    Args:
        run: the folder of a run; its newest checkpoint is taken, and must be there until the model is built.
        width: of the vectors that open chunks, the outer width of the model.
        codec: that of the model that will hear the chunks; `None`: bytes.

    Raises:
        CheckpointError: there is no such run, or no whole checkpoint in it.
        DataError: as `entropy_threshold`.
        ConfigError: the small model learnt with another codec.
    """
    loaded, codec = load_run(run), ByteCodec() if codec is None else codec
    remedy = "is not the codec of the model that will hear the chunks: train the small model with that one"
    check(loaded.codec.fingerprint() == codec.fingerprint(), "run.codec", loaded.codec.to_config()["kind"], remedy)
    shape = {"bytes_per_chunk": bytes_per_chunk, "constraint": constraint}
    threshold = entropy_threshold(loaded.model, codec, texts, **shape)
    checkpoints = Checkpoints(loaded.path / CHECKPOINTS, loaded.config, loaded.config.training.keep)
    kind = EntropyThreshold if constraint == "global" else EntropyRise
    return kind.Config(
        width=width,
        model=loaded.config.model,
        threshold=threshold,
        bytes_per_chunk=bytes_per_chunk,
        weights=str((checkpoints.path(loaded.step) / MODEL).resolve()),
    )
