"""Evaluation beyond the trained length: the same weights, in blocks."""

from __future__ import annotations

import pytest
import torch

import everlong
from everlong import LanguageModel
from everlong.core.errors import ConfigError
from everlong.model.blockwise import blockwise
from everlong.sequence.blockwise import BlockwiseAttention
from everlong.testing.compare import assert_near
from everlong.testing.example import shake

SIZE = {"layers": 2, "width": 16, "heads": 2, "hidden": 16, "vocabulary": 17}


def pair(name: str, block: int, **overrides) -> tuple[LanguageModel, LanguageModel]:
    """A model, and the same in blocks with its weights."""
    config = everlong.config(name, **SIZE, **overrides)
    model, other = config.build().double(), blockwise(config, block).build().double()
    shake(model)
    other.load_state_dict(model.state_dict())
    return model, other


def test_two_blocks_are_dense() -> None:
    """Up to the trained length nothing changes; beyond it the same weights see two blocks, and no limit holds."""
    model, other = pair("transformer:nano", 8, context_limit=16)
    ids_BT = torch.randint(17, (2, 40))
    assert_near(other(ids_BT[:, :16]).logits, model(ids_BT[:, :16]).logits, 1e-12, "logits")
    logits_BTV = other(ids_BT).logits
    changed = ids_BT.clone()
    changed[:, :8] = (changed[:, :8] + 1) % 17
    difference = (other(changed).logits - logits_BTV).abs().amax((0, 2))
    assert difference[8:16].min() > 0
    assert (difference[8 + 2 * 8 :] == 0).all()  # two layers hand on over two blocks
    assert logits_BTV.isfinite().all()


@pytest.mark.parametrize(
    ("name", "overrides"),
    [("longnet:nano", {"segment_lengths": (4, 9), "dilations": (1, 2)}), ("window:nano", {"window": 9})],
)
def test_what_reaches_no_further_stays(name, overrides) -> None:
    model, other = pair(name, 8, **overrides)
    ids_BT = torch.randint(17, (2, 40))
    assert torch.equal(other(ids_BT).logits, model(ids_BT).logits)
    with pytest.raises(ConfigError, match=r"= 9: reaches beyond two blocks; give a block of at least 8"):
        blockwise(everlong.config(name, **SIZE, **overrides), 7)


def test_look_back_and_sinks_reach_further() -> None:
    config = everlong.config("longnet:nano", **SIZE, segment_lengths=(4, 9), dilations=(1, 2), look_back=True)
    with pytest.raises(ConfigError, match=r"= 18: reaches beyond two blocks; give a block of at least 17"):
        blockwise(config, 16)
    blockwise(config, 17)
    with pytest.raises(ConfigError, match=r"sinks = 2: are seen from everywhere"):
        blockwise(everlong.config("longnet:nano", sinks=2), 10**6)


def test_summaries_cannot_be_bounded() -> None:
    with pytest.raises(ConfigError, match="summaries that are seen from everywhere"):
        blockwise(everlong.config("sparse:nano"), 1000)


def test_wrong_block() -> None:
    with pytest.raises(ConfigError, match=r"blockwise_attention.block = 0: must be at least 1"):
        BlockwiseAttention.Config(width=8, heads=2, kv_heads=2, position=None, block=0).build()
