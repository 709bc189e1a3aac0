"""N-gram heads: what they find in texts that can be read, and what they refuse."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import everlong
from everlong import Span
from everlong.core.errors import ConfigError
from everlong.memory.compression import Compression
from everlong.memory.ngram_head import NGramHeads, last_of_few, last_of_many

CONFIG = NGramHeads.Config(width=4, vocabulary=256, orders=(1, 3), window=8)


def found(text: bytes, **changes: Any) -> list[str]:
    """What each head finds at every position, as text; `.` for nothing."""
    part = CONFIG.replace(**changes).build()
    token_TO = part.following(Span.plain_from(torch.tensor([[*text]])), None)[0]
    return ["".join("." if token == 256 else chr(token) for token in token_T) for token_T in token_TO.T.tolist()]


def test_finds_what_followed_the_last_time() -> None:
    assert found(b"abcdabceabc") == ["....bcd.bce", "......d...e"]


def test_does_not_look_beyond_its_window() -> None:
    assert found(b"xy123456x", window=8)[0] == "........y"
    assert found(b"xy123456x", window=7)[0] == "........."


def test_compressed_tokens_are_the_same_but_the_one_that_followed_is_told_as_it_was() -> None:
    assert found(b"Ab..aB..A", compression=case_blind())[0][4] == "b"
    assert found(b"AB..ab", compression=case_blind())[0][4] == "B"


def case_blind() -> Compression:
    """Of bytes, letters without their case."""
    numbers: dict[int, int] = {}
    return Compression.pack(
        [numbers.setdefault(ord(chr(i).lower()) if i < 128 else i, len(numbers)) for i in range(256)]
    )


def test_adds_nothing_at_first() -> None:
    x_BTD = torch.randn(2, 9, 4)
    y_BTD, _ = CONFIG.build()(x_BTD, Span.plain_from(torch.randint(3, (2, 9))))
    assert torch.equal(y_BTD, x_BTD)


def test_shows_how_many_heads_found_something() -> None:
    span = Span.plain_from(torch.tensor([[*b"abcdabce"]]))
    CONFIG.build()(torch.zeros(1, 8, 4), span)
    assert span.observed["n-gram heads/found"][0].tolist() == [[0, 0, 0, 0, 1, 1, 2, 0]]


@pytest.mark.parametrize("T", [1, 3, 17])
def test_sorting_and_comparing_agree(T: int) -> None:
    key_BS, place_T = torch.randint(9, (3, 40)), torch.arange(40 - T, 40)

    def plain(key_S: list[int], t: int) -> int:
        return max((u for u in range(t) if key_S[u] == key_S[t]), default=-1)

    expected = Tensor([[plain(row, t) for t in place_T.tolist()] for row in key_BS.tolist()]).long()
    for find in (last_of_few, last_of_many):
        assert torch.equal(find(key_BS, place_T.expand(3, T)), expected)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"width": 0}, "ngram_heads.width"),
        ({"vocabulary": 0}, "ngram_heads.vocabulary"),
        ({"window": 0}, "ngram_heads.window"),
        ({"orders": ()}, "ngram_heads.orders"),
        ({"orders": (2, 2)}, "ngram_heads.orders"),
        ({"vocabulary": 255, "compression": case_blind()}, "ngram_heads.vocabulary"),
    ],
)
def test_refuses_what_does_not_fit(change: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        CONFIG.replace(**change).build()
    assert caught.value.field == field


def test_preset_has_them_before_the_first_layer() -> None:
    plain = everlong.config("engram:nano")
    config = everlong.config("engram:nano", ngram_heads=(2, 4), ngram_window=9)
    first, *others = config.body.blocks  # type: ignore[attr-defined]
    assert first == NGramHeads.Config(width=96, vocabulary=259, orders=(2, 4), window=9)
    assert tuple(others) == plain.body.blocks  # type: ignore[attr-defined]
