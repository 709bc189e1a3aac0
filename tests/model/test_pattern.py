"""Layer patterns: the grammar, the stacks it makes, and errors that show the place."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everlong.core.errors import ConfigError
from everlong.model.branch import Branch
from everlong.model.pattern import HNET, layers, stack
from everlong.model.stack import Block
from everlong.sequence.attention import Attention
from everlong.sequence.linear_attention import LinearAttention
from everlong.width.swiglu import SwiGLU

LETTERS = {"M": 0, "A": 1}

SAME = {
    "M": "M",
    "M M M A" * 2: "MMMAMMMA",
    "M3A M3A": "MMMAMMMA",
    "(M3A)2": "MMMAMMMA",
    " ( M3\tA ) 2 \n": "MMMAMMMA",
    "A(M(MA)2)2M": "AMMAMAMMAMAM",
    "M12": "M" * 12,
    "(M)": "M",
}


@pytest.mark.parametrize("pattern", SAME)
def test_reads(pattern: str) -> None:
    assert "".join(layers(pattern, LETTERS)) == SAME[pattern]


def test_reads_hnet() -> None:
    assert "".join(layers("m4T1", HNET)) == "mmmmT"
    assert "".join(layers("T1m4t2M", HNET)) == "TmmmmttM"


@given(st.lists(st.tuples(st.sampled_from("MA"), st.integers(1, 3)), min_size=1, max_size=6), st.integers(1, 3))
def test_counts_are_repetitions(items: list[tuple[str, int]], times: int) -> None:
    short = "".join(f"{letter}{count}" for letter, count in items)
    long = "".join(letter * count for letter, count in items)
    assert "".join(layers(f"({short}){times}", LETTERS)) == long * times == "".join(layers(short * times, LETTERS))


WRONG = {
    "": "holds no layers",
    "  ": "holds no layers",
    "MXA": "'M→XA': 'X', character 2, is no layer; known: A, M",
    "ma": "'→ma': 'm', character 1, is no layer",
    "3M": "'→3M': '3', character 1, counts nothing",
    "M 3 4": "'M 3 →4': '4', character 5, counts nothing",
    "MM0A": "'MM→0A': '0', character 3, is no count",
    "M(MA": "'M→(MA': '(', character 2, is never closed",
    "((M)": "'→((M)': '(', character 1, is never closed",
    "MA)2": "'MA→)2': ')', character 3, closes nothing",
    "M()2": "'M→()2': '(', character 2, opens a group of no layers",
    "M-1": "'M→-1': '-', character 2, is no layer",
}


@pytest.mark.parametrize("pattern", WRONG)
def test_wrong(pattern: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(WRONG[pattern])):
        layers(pattern, LETTERS)


def test_stack() -> None:
    mamba = Branch.Config(width=8, inner=LinearAttention.Config(width=8, heads=2))
    attention = Block.Config(
        width=8,
        mixer=Attention.Config(width=8, heads=2, kv_heads=1, position=None),
        feed_forward=SwiGLU.Config(width=8, hidden=12),
    )
    config = stack("(m2T)2", {"m": mamba, "T": attention})
    assert config.width == 8
    assert config.blocks == (mamba, mamba, attention) * 2
    assert len(config.build().blocks) == 6


def test_branch_of_another_width() -> None:
    with pytest.raises(ConfigError, match=re.escape("branch.inner.width = 8: must be the branch's width, 16")):
        Branch.Config(width=16, inner=LinearAttention.Config(width=8, heads=2)).build()
