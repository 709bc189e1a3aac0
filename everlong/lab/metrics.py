"""What is measured of a trained model: held-out documents, cut into windows as in training, and suites of questions.

Legend: N windows, T positions, D documents.

The held-out documents fall into two halves by their content. The learning rate is chosen on the one, and all that is
reported comes from the other. Every window is read without a past, from its first token on, so that no architecture
is asked for lengths that it has not been trained on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal, get_args

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from everlong.core.config import Config, check
from everlong.core.errors import DataError
from everlong.core.span import by_part
from everlong.data import TokenStore
from everlong.evaluate import measure
from everlong.evaluate.suites import SUITES
from everlong.generate.scoring import surprisal
from everlong.lab.questions import SPEED, Questions, answered
from everlong.model.language_model import LanguageModel
from everlong.train.learner import training

Half = Literal["selection", "reported"]
"""What the learning rate is chosen on, and what is reported."""
HALVES: tuple[Half, ...] = get_args(Half)

OBSERVED = "observed"
MODES = ("a stream", "training")
"""How a model is read for what its parts show: as it streams, and as it is trained."""
SHOWN = 64
"""Windows that are read for it, at most."""


class HeldOut(Config):
    """How much of the held-out documents is read."""

    bytes: int = 250_000
    """Of each half: documents are taken until they hold as many."""
    document_bytes: int = 8_192
    """Most of one document, from its beginning, so that none outweighs the others."""
    batch: int = 16
    """Windows that are read side by side."""

    def __post_init__(self) -> None:
        for name in ("bytes", "document_bytes", "batch"):
            check(getattr(self, name) >= 1, f"held_out.{name}", getattr(self, name), "must be at least 1")


@dataclass(frozen=True, eq=False)
class Scored:
    """Windows that a model has read."""

    bits_NT: Float64[np.ndarray, "n t"]
    """Surprisal of every target; 0 behind the end of a document."""
    bytes_NT: Int64[np.ndarray, "n t"]
    """True bytes that it stands for."""
    document_N: Int64[np.ndarray, " n"]
    """The document of each window, counted from 0."""

    @property
    def bits_per_byte(self) -> float:
        return float(self.bits_NT.sum() / self.bytes_NT.sum())


@dataclass(frozen=True, eq=False)
class Trained:
    """A model that is to be measured."""

    model: LanguageModel
    """In evaluation mode."""
    reported: Scored
    """The half that is reported, as it has read it."""
    documents: TokenStore
    """All that are held out."""
    window: int
    """T, tokens that it was trained to read at a time."""
    held_out: HeldOut
    questions: Questions | None
    """How suites ask; `None` where no metric is one."""

    def asked(self) -> Questions:
        """How suites ask."""
        assert self.questions is not None  # a study with suites has told
        return self.questions


Metric = Callable[[Trained], dict[str, Any]]


def by_document(scored: Scored) -> dict[str, Any]:
    """Bits and bytes of every document."""
    bits_D = np.bincount(scored.document_N, scored.bits_NT.sum(1))
    bytes_D = np.bincount(scored.document_N, scored.bytes_NT.sum(1)).astype(int)
    return {"bits": [round(bits, 3) for bits in bits_D.tolist()], "bytes": bytes_D.tolist()}


def by_position(scored: Scored) -> dict[str, Any]:
    """Bits per byte in ranges of the place in the window. A window that only holds a document's end tells nothing."""
    told = scored.bytes_NT.any(axis=1)
    found = measure(zip(scored.bits_NT[told], scored.bytes_NT[told], strict=True)).by_position
    ends = [end for _, end in found.ranges]
    return {"ends": ends, "bytes": list(found.bytes), "bits_per_byte": list(found.bits_per_byte)}


@torch.inference_mode()
def observed(model: LanguageModel, whole_NT: Int64[np.ndarray, "n t"], batch: int) -> dict[str, dict[str, float]]:
    """Means of what every part shows of some windows, and their bits per token, in a stream and in training.

    Args:
        batch: windows that are read side by side.
    """
    pieces_BT = torch.from_numpy(whole_NT).split(batch)
    streaming = _shown(model, pieces_BT)
    with training(model):
        return dict(zip(MODES, (streaming, _shown(model, pieces_BT)), strict=True))


def _shown(model: LanguageModel, pieces_BT: Sequence[Tensor]) -> dict[str, float]:
    shown: dict[str, list[tuple[float, int]]] = {}
    for ids_BT in pieces_BT:
        output = model(ids_BT)
        bits = torch.from_numpy(surprisal(output.logits[:, :-1], ids_BT[:, 1:]))
        for name, value in (("bits per token", bits), *by_part(output.observed)):
            shown.setdefault(name, []).append((float(value.double().mean()), len(ids_BT)))
    return {
        name: float(np.average([mean for mean, _ in found], weights=[rows for _, rows in found]))
        for name, found in shown.items()
    }


def _suite(name: str) -> Metric:
    return lambda trained: answered(trained.model, trained.documents.codec, name, trained.asked())


METRICS: dict[str, Metric] = {
    "bits_per_byte": lambda trained: by_document(trained.reported),
    "by_position": lambda trained: by_position(trained.reported),
    OBSERVED: lambda trained: observed(trained.model, whole_windows(trained), trained.held_out.batch),
    **{name: _suite(name) for name in SUITES},
}
"""What can be asked of a cell, by name."""
NAMES = (*METRICS, SPEED)
"""What a study can ask for; speed is measured when all cells are trained (`speeds.py`)."""


def half_of(digest: str) -> Half:
    """The half that a document belongs to, by its SHA-256; the split into training and held-out reads other digits."""
    return "selection" if int(digest[-1], 16) % 2 else "reported"


def choose(store: TokenStore, half: Half, held_out: HeldOut) -> list[int]:
    """The documents of a half that are read, in an order that their names have no part in.

    Raises:
        DataError: the half has fewer than two documents, so that no error can be told.
    """
    own = [i for i in range(len(store)) if half_of(store.hashes[i]) == half]
    own.sort(key=lambda i: store.hashes[i][::-1])
    if len(own) < 2:
        remedy = f"leave {len(own)} of {len(store)} for the {half} half, which takes two: hold out more"
        raise DataError("held-out documents", len(store), remedy)
    sizes = np.minimum(store.byte_counts[own], held_out.document_bytes)
    enough = int(np.searchsorted(sizes.cumsum(), held_out.bytes)) + 1
    return own[: max(2, enough)]


@torch.inference_mode()
def score(model: LanguageModel, store: TokenStore, half: Half, window: int, held_out: HeldOut) -> Scored:
    """Has a model in evaluation mode read one half.

    Raises:
        DataError: as `choose` does.
        EverlongError: the model's numbers are not finite.
    """
    pieces = [list(_windows(store, i, window, held_out)) for i in choose(store, half, held_out)]
    ids_NT, targets_NT, real_NT = (
        np.stack(rows) for rows in zip(*(row for rows in pieces for row in rows), strict=True)
    )
    bits = []
    for start in range(0, len(ids_NT), held_out.batch):
        rows = slice(start, start + held_out.batch)
        ids_BT, targets_BT = torch.from_numpy(ids_NT[rows]), torch.from_numpy(targets_NT[rows])
        bits.append(surprisal(model(ids_BT).logits, targets_BT))
    bytes_NT = store.codec.byte_lengths()[targets_NT] * real_NT
    document_N = np.repeat(np.arange(len(pieces)), [len(rows) for rows in pieces])
    return Scored(np.concatenate(bits) * real_NT, bytes_NT, document_N)


def whole_windows(trained: Trained) -> Int64[np.ndarray, "n t"]:
    """The first windows of the reported half that no end of a document cuts, as ids.

    Raises:
        DataError: as `choose` does, or every document is shorter than a window.
    """
    held_out, T = trained.held_out, trained.window
    documents = choose(trained.documents, "reported", held_out)
    windows = (row for i in documents for row in _windows(trained.documents, i, T, held_out))
    whole = list(islice((ids for ids, _, real in windows if real.all()), SHOWN))
    if not whole:
        raise DataError("held-out documents", len(documents), f"are all shorter than a window of {T}: shorten it")
    return np.stack(whole)


def _windows(store: TokenStore, i: int, T: int, held_out: HeldOut) -> Iterator[tuple[np.ndarray, ...]]:
    """Ids, targets, and which of them are real, of the windows of document i."""
    ids = store.document(i)[: held_out.document_bytes + 1].astype(np.int64)
    for start in range(0, len(ids) - 1, T):
        piece = ids[start : start + T + 1]
        padded = np.pad(piece, (0, T + 1 - len(piece)), mode="edge")  # causal: what follows the end changes nothing
        yield padded[:-1], padded[1:], np.arange(T) < len(piece) - 1
