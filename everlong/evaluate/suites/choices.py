"""Which of several continuations belongs to a context? A multiple-choice task made of any documents.

The right continuation is what follows in the document, the others come from other documents, all equally long. The
place of the right one among them is random, so that a model which always takes the first is at chance.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from everlong.core.config import check
from everlong.core.errors import DataError
from everlong.data import Codec, TokenStore
from everlong.generate import score_documents
from everlong.generate.stream import check_codec
from everlong.model.language_model import LanguageModel

OPTIONS = 4
"""Continuations to choose from."""


@dataclass(frozen=True)
class Choices:
    """A context and its continuations."""

    context: str
    options: tuple[bytes, ...]
    gold: int
    """Which one is right."""


def choices(store: TokenStore, *, count: int, context: int = 256, option: int = 64, seed: int = 0) -> list[Choices]:
    """Draws examples from documents.

    Args:
        context: bytes of a context.
        option: bytes of a continuation.

    Raises:
        ConfigError: a number is below 1.
        DataError: there are too few documents that are long enough.
    """
    for name, value in (("examples", count), ("context", context), ("option", option)):
        check(value >= 1, name, value, "must be at least 1")
    long = [i for i, size in enumerate(store.byte_counts.tolist()) if size >= context + option]
    if len(long) < OPTIONS:
        remedy = f"are too few: {OPTIONS} documents of {context + option} bytes or more are needed"
        raise DataError("documents", len(long), remedy)
    generator = np.random.Generator(np.random.PCG64(seed))
    return [_choice(store, generator, long, context, option) for _ in range(count)]


def chosen(
    model: LanguageModel, codec: Codec, asked: list[Choices], *, batch: int = 16, context: int | None = None
) -> list[int]:
    """The continuation that a model finds likeliest, of every example.

    Raises:
        ConfigError: the codec is not the model's, or `batch` or `context` is out of range.
        EverlongError: the model's numbers are not finite.
    """
    check_codec(model, codec)
    found = score_documents(model, _ids(codec, asked), batch=batch, context=context)
    lengths = (len(codec.encode(option)) for choice in asked for option in choice.options)
    bits = [float(bits_T[-length:].sum()) for bits_T, length in zip(found, lengths, strict=True)]
    return np.argmin(np.reshape(bits, (len(asked), OPTIONS)), axis=1).tolist()


def _choice(store: TokenStore, generator: np.random.Generator, long: list[int], context: int, option: int) -> Choices:
    right, *others = generator.choice(long, OPTIONS, replace=False).tolist()
    shown = _stretch(store, generator, right, context + option)
    options = [_stretch(store, generator, other, option) for other in others]
    gold = int(generator.integers(OPTIONS))
    options.insert(gold, shown[context:])
    return Choices(shown[:context].decode("utf-8", "replace"), tuple(options), gold)


def _stretch(store: TokenStore, generator: np.random.Generator, document: int, size: int) -> bytes:
    data = store.codec.decode(store.document(document))
    start = int(generator.integers(len(data) - size + 1))
    return data[start : start + size]


def _ids(codec: Codec, asked: list[Choices]) -> Iterator[np.ndarray]:
    for choice in asked:
        context = np.concatenate([[codec.bos], codec.encode(choice.context.encode())])
        yield from (np.concatenate([context, codec.encode(option)]) for option in choice.options)
