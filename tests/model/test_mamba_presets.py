"""The published sizes, the layers of the hybrids, and errors of their arguments."""

from __future__ import annotations

import pytest
import torch

import everlong
from everlong.core.accounting import parameter_count
from everlong.core.errors import ConfigError
from everlong.model.branch import Branch
from everlong.model.parallel import Parallel
from everlong.model.stack import Block, Stack
from everlong.sequence.attention import Attention
from everlong.sequence.delta import DeltaNet
from everlong.sequence.mamba import Mamba2

PUBLISHED = {
    "mamba:130m": 128_989_632,
    "mamba:780m": 780_161_280,
    "mamba1:130m": 129_135_360,
    "mamba1:790m": 793_204_224,
}
"""Parameters of the authors' checkpoints, state-spaces/mamba2-130m and the like, whose head is their embedding."""


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_sizes(name: str) -> None:
    with torch.device("meta"):
        model = everlong.build(name)
    assert parameter_count(model) - model.head.weight.numel() == PUBLISHED[name]


def mixers(name: str, **arguments: object) -> str:
    """One letter a layer, of H-Net's."""
    body = everlong.config(name, **arguments).body
    assert isinstance(body, Stack.Config)
    letters = {(Branch, Mamba2): "m", (Block, Mamba2): "M", (Branch, Attention): "t", (Block, Attention): "T"}
    found = ""
    for block in body.blocks:
        assert isinstance(block, Branch.Config | Block.Config)
        mixer = block.inner if isinstance(block, Branch.Config) else block.mixer
        found += letters[block.builds, mixer.builds]  # type: ignore[index]
    return found


def test_patterns() -> None:
    assert mixers("hybrid:small") == "mmmT" * 4
    assert mixers("hybrid7:small") == "mmmmmmmT" * 2
    assert mixers("mamba:nano") == "m" * 6
    assert mixers("mamba:nano", hidden=32) == "M" * 6
    assert mixers("hybrid:nano", pattern="m2(MT)2t", layers=9) == "mmMTMTtmm"


def test_parallel() -> None:
    block = everlong.config("parallel-hybrid:nano").body.blocks[0]  # type: ignore[attr-defined]
    assert isinstance(block.mixer, Parallel.Config)
    assert [type(part) for part in block.mixer.parts] == [Mamba2.Config, Attention.Config]


def test_delta_without_decay() -> None:
    block = everlong.config("delta:nano", decay=None).body.blocks[0]  # type: ignore[attr-defined]
    assert isinstance(block.mixer, DeltaNet.Config)
    assert block.mixer.decay is None
    assert block.mixer.value_size == 2 * block.mixer.key_size == 48


WRONG = {
    "pattern": ("hybrid:nano", {"pattern": "m3X"}, "pattern = 'm3→X'"),
    "heads": ("mamba:nano", {"heads": 5}, "heads = 5: must divide width = 96"),
    "delta heads": ("delta:nano", {"heads": 5}, "heads = 5: must divide width = 96"),
    "layers": ("hybrid7:nano", {"layers": 0}, "layers = 0: must be at least 1"),
    "no layers": ("mamba1:nano", {"layers": 0}, "layers = 0: must be at least 1"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_arguments(case: str) -> None:
    name, arguments, message = WRONG[case]
    with pytest.raises(ConfigError, match=message):
        everlong.build(name, **arguments)
