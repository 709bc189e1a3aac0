"""Presets: names, sizes, overrides, and errors that name the remedy."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import everlong
from everlong import LanguageModel, config_from_dict
from everlong.core.accounting import active_parameter_count, parameter_count, parameter_hints
from everlong.core.errors import ConfigError
from everlong.memory.engram import Engram
from everlong.model.presets import OWN_SIZES, SIZES, composed, registry
from everlong.model.stack import Block, Residual, Stack
from everlong.sequence.attention import Attention, WindowAttention

PARAMETERS = {"nano": (1e5, 1e6), "tiny": (1e6, 4e6), "small": (2.5e7, 3.5e7), "base": (1e8, 1.4e8)}
PARAMETERS["paper"] = (1e8, 2.5e8)  # of LongNet and of Infini-attention
PARAMETERS["130m"], PARAMETERS["780m"], PARAMETERS["790m"] = (1.6e8, 1.7e8), (8.5e8, 8.6e8), (8.7e8, 8.8e8)  # of Mamba
PARAMETERS["megabyte:paper"] = (9e8, 1e9)
PARAMETERS["large"], PARAMETERS["xl"] = (6.7e8, 8.8e8), (1.2e9, 1.7e9)  # of H-Net
PARAMETERS["27b"] = PARAMETERS["40b"] = (2.9e9, 3.3e9)  # of Engram, beside its tables
PARAMETERS |= dict.fromkeys(("moe:27b", "engram-moe:27b", "engram-moe:40b"), (4.2e9, 4.4e9))  # with all of attention


def test_names() -> None:
    names = everlong.presets()
    assert {"transformer:nano", "window:tiny", "sparse:small", "linear:base", "longnet:paper"} <= set(names)
    families = {name.partition(":")[0] for name in names}
    own = [f"{family}:{size}" for family, sizes in OWN_SIZES.items() for size in sizes]
    assert sorted(names) == sorted({f"{family}:{size}" for family in families for size in SIZES} | {*own})


@pytest.mark.parametrize("name", everlong.presets())
def test_sizes(name: str) -> None:
    with torch.device("meta"):
        model = everlong.build(name)
    low, high = PARAMETERS.get(name) or PARAMETERS[name.partition(":")[2]]
    tables = sum(parameter.numel() for _, parameter, hint in parameter_hints(model) if hint.sparse)
    assert low <= active_parameter_count(model) - tables <= high
    assert model.config == everlong.config(name)
    assert config_from_dict(model.config.to_dict()) == model.config


@pytest.mark.parametrize(
    ("name", "total"), [("moe:27b", 26.7e9), ("engram-moe:27b", 26.7e9), ("engram-moe:40b", 39.5e9)]
)
def test_the_engram_papers_totals(name: str, total: float) -> None:
    """Of table 5, with embedding and head."""
    with torch.device("meta"):
        assert parameter_count(everlong.build(name)) == pytest.approx(total, rel=0.01)


def test_overrides_reach_the_parts() -> None:
    config = everlong.config("window:nano", window=7, layers=2, heads=4, kv_heads=2, width=32, vocabulary=11)
    assert isinstance(config.body, Stack.Config)
    assert len(config.body.blocks) == 2
    block = config.body.blocks[0]
    assert isinstance(block, Block.Config)
    assert isinstance(block.mixer, WindowAttention.Config)
    mixer = block.mixer
    assert (mixer.window, mixer.heads, mixer.kv_heads, mixer.width, config.vocabulary) == (7, 4, 2, 32, 11)
    assert isinstance(everlong.build("window:nano", window=7), LanguageModel)


def test_families_that_extend_others_take_their_arguments() -> None:
    """Those of the other, with defaults in their place, and their own."""
    known = everlong.model.presets.arguments("everlong:nano")
    assert (known["window"], known["pattern"], known["rows"]) == (256, "M3T", 2**15)
    assert everlong.model.presets.arguments("hybrid:nano")["window"] is None
    changes = {"pattern": "T", "layers": 1, "memory_layers": (), "ngram_heads": ()}
    default, changed = (everlong.config("everlong:nano", **changes, **more) for more in ({}, {"window": 7}))
    assert [_windows(config) for config in (default, changed)] == [[256], [7]]
    assert composed.everlong(**{**SIZES["nano"], "state_size": 64, **changes}) == default


@pytest.mark.parametrize(("changes", "layers"), [({}, [0, 2]), ({"layers": 7}, [0, 3]), ({"layers": 1}, [0])])
def test_everlong_has_tables_before_the_first_layer_and_the_middle_one(
    changes: dict[str, int], layers: list[int]
) -> None:
    body = everlong.config("everlong:nano", **changes).body
    assert isinstance(body, Stack.Config)
    found, layer = [], 0
    for block in body.blocks:
        if isinstance(block, Residual.Config) and isinstance(block.inner, Engram.Config):
            found.append(layer)
        layer += isinstance(block, Block.Config)
    assert found == layers


def _windows(config: LanguageModel.Config) -> list[int]:
    assert isinstance(config.body, Stack.Config)
    mixers = [block.mixer for block in config.body.blocks if isinstance(block, Block.Config)]
    return [mixer.window for mixer in mixers if isinstance(mixer, WindowAttention.Config)]


def test_hidden_layers_follow_the_width() -> None:
    block = everlong.config("transformer:nano", width=96).body.blocks[0]  # type: ignore[attr-defined]
    assert block.feed_forward.hidden == 256  # 8/3 of 96
    odd = everlong.config("transformer:nano", width=100, heads=5).body.blocks[0]  # type: ignore[attr-defined]
    assert odd.feed_forward.hidden == 288  # 266.7, rounded up to 32
    assert isinstance(odd.mixer, Attention.Config)


WRONG: dict[str, tuple[str, dict[str, Any], str]] = {
    "family": ("transfomer:tiny", {}, r"preset = 'transfomer:tiny': did you mean 'transformer'\? known: .*window"),
    "no family": ("", {}, r"preset = '': .*known: .*linear"),
    "size": ("window:tny", {}, r"size = 'tny': did you mean 'tiny'\? known: base, nano, small, tiny"),
    "another family's size": ("window:paper", {}, r"size = 'paper': .*known: base"),
    "segments": ("longnet:nano", {"segment_lengths": (8, 4, 2)}, r"segment_lengths = \(8, 4, 2\): must grow"),
    "dilations": ("longnet:nano", {"dilations": (2, 3, 4)}, r"dilations = \(2, 3, 4\): must begin with 1, or some"),
    "no size": ("window", {}, r"size = '': .*known: base"),
    "override": ("window:nano", {"windw": 3}, r"windw = 3: did you mean 'window'\?"),
    "override of another family": ("transformer:nano", {"window": 3}, r"window = 3: .*known: .*heads"),
    "heads": ("transformer:nano", {"heads": 5}, r"attention.heads = 5: must divide attention.width = 96: one of"),
    "kv heads": ("transformer:nano", {"kv_heads": 2}, r"attention.kv_heads = 2: must divide attention.heads = 3"),
    "no kv heads": ("window:nano", {"kv_heads": 0}, r"attention.kv_heads = 0: must divide"),
    "linear heads": ("linear:nano", {"heads": 5}, r"linear_attention.heads = 5: must divide"),
    "layers": ("linear:nano", {"layers": 0}, r"layers = 0: must be at least 1"),
    "width": ("linear:nano", {"width": 0}, r"width = 0: must be at least 1"),
    "negative width": ("transformer:nano", {"width": -3}, r"width = -3: must be at least 1"),
    "hidden": ("sparse:nano", {"hidden": 0}, r"swiglu.hidden = 0: must be at least 1"),
    "window": ("window:nano", {"window": 0}, r"window_attention.window = 0"),
    "summary": ("sparse:nano", {"summary": 999}, r"sparse_attention.summary = 999"),
    "vocabulary": ("sparse:nano", {"vocabulary": 0}, r"vocabulary = 0: must be at least 2"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_names_and_numbers(case: str) -> None:
    name, overrides, named = WRONG[case]
    with pytest.raises(ConfigError, match=named):
        everlong.build(name, **overrides)


def test_what_neither_family_nor_size_sets_must_be_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_families", dict(registry._families))
    monkeypatch.setattr(registry, "OWN_SIZES", dict(registry.OWN_SIZES))

    @registry.family()
    def stretched(*, stretch: int, layers: int, width: int, heads: int) -> LanguageModel.Config:
        return everlong.config("transformer:nano", layers=layers, width=stretch * width, heads=heads)

    assert everlong.config("stretched:nano", stretch=2) == everlong.config("transformer:nano", width=192)
    with pytest.raises(ConfigError, match="stretch = 'nothing': must be given, since stretched:nano sets no value"):
        everlong.config("stretched:nano")
