"""A description adds up, tells apart what differs, and allocates nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import everlong
from everlong import LanguageModel
from everlong.core.accounting import parameter_count
from everlong.core.errors import ConfigError
from everlong.evaluate.describe import Description, Node, describe
from everlong.model.stack import Stack

FAMILIES = ["linear", "sparse", "transformer", "window"]
SHAPE = {"layers": 3, "width": 32, "heads": 4}


def described(config: LanguageModel.Config, window: int = 64) -> Description:
    return describe(config, window=window, batch=2, precision="float32")


def nodes(node: Node) -> Iterator[Node]:
    yield node
    for inner in node.inside:
        yield from nodes(inner)


def named(node: Node, name: str) -> Node:
    return next(inner for inner in nodes(node) if inner.name == name)


@pytest.mark.parametrize("family", FAMILIES)
def test_parameters_add_up(family):
    config = everlong.config(f"{family}:nano", **SHAPE)
    tree = described(config).tree
    assert tree.parameters == parameter_count(config.build())
    for node in nodes(tree):
        assert not node.inside or node.parameters == sum(inner.parameters for inner in node.inside)


def test_by_hand():
    tree = described(everlong.config("transformer:nano", **SHAPE, hidden=48)).tree
    assert named(tree, "embedding").parameters == named(tree, "head").parameters == 259 * 32
    assert named(tree, "feed_forward").parameters == 3 * (3 * 32 * 48)
    assert named(tree, "mixer").parameters == 3 * (4 * 32 * 32)
    assert named(tree, "gate").detail == "48×32"


def test_blocks_that_are_alike_are_one_node():
    blocks = named(described(everlong.config("window:nano", **SHAPE)).tree, "blocks[0-2]")
    assert (blocks.kind, blocks.count) == ("Block", 3)
    mixer = named(blocks, "mixer")
    assert (mixer.kind, mixer.count) == ("WindowAttention", 3)
    for setting in ("heads=4", "window=256", "position=Rotary"):
        assert setting in mixer.detail


def test_blocks_that_differ_are_not():
    one, other = (everlong.config("window:nano", **SHAPE, window=w).body.blocks[0] for w in (8, 9))
    body = Stack.Config(width=32, blocks=(one, one, other, one))
    config = LanguageModel.Config(vocabulary=259, body=body, context_limit=None)
    tree = described(config).tree
    assert [(n.name, n.count) for n in named(tree, "body").inside[:3]] == [
        ("blocks[0-1]", 2),
        ("blocks[2]", 1),
        ("blocks[3]", 1),
    ]
    assert tree.parameters == parameter_count(config.build())


@pytest.mark.parametrize("family", FAMILIES)
def test_flops_and_state_are_the_model_s_own(family):
    config = everlong.config(f"{family}:nano", **SHAPE)
    model, found = config.build(), described(config, window=100)
    assert found.flops_per_token == model.flops(100) / 100
    sizes = {"1K": 1024, "32K": 32 * 1024, "1M": 1024**2, "1G": 1024**3}
    assert found.state_bytes == {name: model.state_bytes(T) for name, T in sizes.items()}


def test_no_stream_is_longer_than_the_limit():
    limited = described(everlong.config("transformer:nano", **SHAPE, context_limit=2000), window=50)
    model = everlong.build("transformer:nano", **SHAPE)
    assert limited.state_bytes["1K"] == model.state_bytes(1024)
    assert limited.state_bytes["1G"] == model.state_bytes(2000)


def test_nothing_is_allocated():
    found = described(everlong.config("transformer:base", width=1 << 18, heads=64), window=4096)
    assert found.tree.parameters > 1e13  # which no machine could hold
    assert found.memory.total > 16 * found.tree.parameters


@pytest.mark.parametrize(("name", "change"), [("window", {"window": 0}), ("batch", {"batch": 0})])
def test_sizes_below_one_are_refused(name, change):
    with pytest.raises(ConfigError, match=name):
        describe(everlong.config("linear:nano"), **{"window": 8, "batch": 1, "precision": "float32", **change})
