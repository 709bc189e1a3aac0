"""Sliding-window and strided scoring against their definitions, position by position."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import everlong
from everlong.core.errors import ConfigError
from everlong.generate import score_documents, sliding, strided

BOS = 256


def model() -> everlong.LanguageModel:
    torch.manual_seed(0)
    shape = {"layers": 1, "width": 16, "heads": 2, "local_layers": 1, "local_width": 8, "local_heads": 2}
    made = everlong.build("megabyte:nano", **shape, patch=4).double()
    for parameter in made.parameters():
        parameter.data.mul_(3)
    return made


MODEL = model()
PLAIN = partial(score_documents, MODEL, batch=3, chunk=7)


def documents(*lengths: int) -> list[np.ndarray]:
    draw = np.random.default_rng(1)
    return [np.concatenate([[BOS], draw.integers(256, size=length)]) for length in lengths]


@torch.no_grad()
def foretold(text: np.ndarray, begin: int, place: int) -> float:
    """Bits of the token at `place`, in a model that has read the text from `begin` on."""
    read = torch.from_numpy(np.concatenate([[BOS], text[begin:place]]))
    return -MODEL(read[None]).logits[0, -1].log_softmax(-1)[text[place]].item() / math.log(2)


@settings(max_examples=8)
@given(window=st.integers(1, 9), stride=st.integers(1, 9), lengths=st.lists(st.integers(0, 25), max_size=4))
def test_sliding_windows(window: int, stride: int, lengths: list[int]) -> None:
    stride, given_ones = min(stride, window), documents(*lengths)
    found = list(sliding(PLAIN, window=window, stride=stride)(given_ones))
    assert [len(bits) for bits in found] == lengths
    for ids, bits in zip(given_ones, found, strict=True):
        for t in range(len(bits)):
            begin = 0 if t < window else math.ceil((t - window + 1) / stride) * stride
            assert bits[t] == pytest.approx(foretold(ids[1:], begin, t), abs=1e-9)


@pytest.mark.parametrize("length", [0, 1, 2, 3, 4, 11])
def test_strided(length: int) -> None:
    """The first half of each patch of 4 by the whole, the second by a pass that begins two tokens later."""
    (ids,) = documents(length)
    (bits,) = strided(PLAIN, 4)([ids])
    assert len(bits) == length
    for t in range(length):
        assert bits[t] == pytest.approx(foretold(ids[1:], 0 if t % 4 < 2 else 2, t), abs=1e-9)


def test_both_at_once() -> None:
    (ids,) = documents(20)
    (bits,) = sliding(strided(PLAIN, 4), window=8, stride=4)([ids])
    for t in range(20):
        begin = 0 if t < 8 else (t // 4 - 1) * 4
        assert bits[t] == pytest.approx(foretold(ids[1:], begin + (0 if (t - begin) % 4 < 2 else 2), t), abs=1e-9)


def test_no_more_documents_are_read_than_are_needed() -> None:
    read: list[int] = []

    def endless() -> Iterator[np.ndarray]:
        for i in range(1000):
            read.append(i)
            yield np.array([BOS, 1, 2, 3])

    def one_by_one(given_ones: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        return (np.zeros(len(ids) - 1) for ids in given_ones)

    next(sliding(strided(one_by_one, 2), window=2, stride=1)(endless()))
    assert read == [0]


def test_errors() -> None:
    with pytest.raises(ConfigError, match="stride = 5: must lie between 1 and the window, 4"):
        sliding(PLAIN, window=4, stride=5)
    with pytest.raises(ConfigError, match="patch = 3: must be even"):
        strided(PLAIN, 3)
