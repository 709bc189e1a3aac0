"""Configurations: what is written is read again, and what is wrong is named."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import pytest
import yaml

import everlong
from everlong import Config, LanguageModel, config_from_dict
from everlong.core.config import check, check_divides, suggest
from everlong.core.errors import ConfigError
from everlong.model.stack import Stack
from everlong.sequence.attention import Attention
from everlong.sequence.position import Rotary, XPos
from everlong.width.swiglu import SwiGLU

ATTENTION = Attention.Config(width=8, heads=2, kv_heads=1, position=XPos.Config(scale_base=64.0))


class Numbers(Config):
    """A configuration of every kind of field."""

    count: int
    rate: float = 1.0
    name: str = "x"
    on: bool = False
    maybe: float | None = None
    sizes: tuple[int, ...] = ()
    inner: Rotary.Config | None = None


def through_json(config: Config) -> Any:
    return config_from_dict(json.loads(json.dumps(config.to_dict(), allow_nan=False)))


def through_yaml(config: Config) -> Any:
    return config_from_dict(yaml.safe_load(yaml.safe_dump(config.to_dict())))


@pytest.mark.parametrize("name", everlong.presets())
def test_presets_round_trip(name: str) -> None:
    config = everlong.config(name, context_limit=512)
    assert through_yaml(config) == config
    assert through_json(config) == config


@pytest.mark.parametrize(
    "config",
    [
        ATTENTION,
        Numbers(count=3),
        Numbers(count=1, rate=math.inf, maybe=-math.inf, name="inf"),
        Numbers(count=-1, rate=0.5, name="", on=True, maybe=2.5, sizes=(1, 2), inner=Rotary.Config(base=5.0)),
        LanguageModel.Config(
            vocabulary=7,
            context_limit=None,
            body=Stack.Config(width=8, blocks=(Stack.Config(width=8, blocks=(ATTENTION,)), ATTENTION)),
        ),
    ],
    ids=lambda config: type(config).kind,
)
def test_round_trip(config: Config) -> None:
    for again in (through_yaml(config), through_json(config)):
        assert again == config
        assert type(again) is type(config)


def test_kind_is_the_name_of_what_it_builds() -> None:
    assert ATTENTION.to_dict()["is"] == "sequence.attention.Attention"
    assert ATTENTION.to_dict()["position"]["is"] == "sequence.position.XPos"
    assert type(ATTENTION.build()) is Attention


def test_whole_numbers_may_stand_for_floats() -> None:
    read = config_from_dict({**Numbers(count=1).to_dict(), "rate": 2, "maybe": 3})
    assert read == Numbers(count=1, rate=2.0, maybe=3.0)
    assert type(read.rate) is type(read.maybe) is float


def test_is_frozen_and_keyword_only() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        ATTENTION.heads = 4  # type: ignore[misc]
    with pytest.raises(TypeError):
        SwiGLU.Config(8, 16)  # type: ignore[misc]


def test_required_fields_have_no_default() -> None:
    with pytest.raises(TypeError, match="position"):
        Attention.Config(width=8, heads=2)  # type: ignore[call-arg]


PLAIN = {"is": "width.swiglu.SwiGLU", "width": 8, "hidden": 16}
KIND = Numbers(count=1).to_dict()["is"]
WRONG: dict[str, tuple[Any, list[str]]] = {
    "unknown kind": (
        {**PLAIN, "is": "width.swiglu.SwigLU"},
        ["is", "'width.swiglu.SwigLU'", "did you mean 'width.swiglu.SwiGLU'"],
    ),
    "no kind": ({"width": 8, "hidden": 16}, ["is", "None", "known: "]),
    "kind that is no name": ({**PLAIN, "is": ["x"]}, ["is", "['x']", "known: "]),
    "unknown field": ({**PLAIN, "hiden": 17}, ["width.swiglu.SwiGLU.hiden", "17", "did you mean 'hidden'"]),
    "missing field": ({"is": "width.swiglu.SwiGLU", "width": 8}, ["width.swiglu.SwiGLU", "missing: hidden"]),
    "text for a number": ({**PLAIN, "hidden": "16"}, ["width.swiglu.SwiGLU.hidden", "'16'", "int"]),
    "a fraction for an int": ({**PLAIN, "hidden": 16.0}, ["width.swiglu.SwiGLU.hidden", "16.0", "int"]),
    "a bool for an int": ({**PLAIN, "hidden": True}, ["width.swiglu.SwiGLU.hidden", "True", "int"]),
    "a list for an int": ({**PLAIN, "hidden": [16]}, ["width.swiglu.SwiGLU.hidden", "16", "int"]),
    "nothing for an int": ({**PLAIN, "hidden": None}, ["width.swiglu.SwiGLU.hidden", "None", "int"]),
    "a bool for a float": ({"is": KIND, "count": 1, "rate": True}, [f"{KIND}.rate", "True", "float"]),
    "text for a bool": ({"is": KIND, "count": 1, "on": "yes"}, [f"{KIND}.on", "'yes'", "bool"]),
    "text among numbers": ({"is": KIND, "count": 1, "sizes": [1, "2"]}, [f"{KIND}.sizes", "'2'", "int"]),
    "a number for a list": ({"is": KIND, "count": 1, "sizes": 3}, [f"{KIND}.sizes", "3", "tuple"]),
    "another kind inside": ({"is": KIND, "count": 1, "inner": PLAIN}, [f"{KIND}.inner", "SwiGLU", "Rotary"]),
    "a mapping without a kind inside": ({"is": KIND, "count": 1, "inner": {"base": 2.0}}, [f"{KIND}.inner", "base"]),
    "wrong deep inside": (
        {"is": "model.stack.Stack", "width": 8, "blocks": [PLAIN, {**PLAIN, "width": "8"}]},
        ["width.swiglu.SwiGLU.width", "'8'", "int"],
    ),
    "an empty file": (None, ["configuration", "None"]),
    "a list": ([PLAIN], ["configuration", "SwiGLU"]),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_dictionaries(name: str) -> None:
    plain, named = WRONG[name]
    with pytest.raises(ConfigError) as caught:
        config_from_dict(plain)
    for part in named:
        assert part in str(caught.value)


def test_replace() -> None:
    assert ATTENTION.replace(heads=4, kv_heads=4).heads == 4
    assert ATTENTION.heads == 2
    with pytest.raises(ConfigError, match=r"Attention.head = 4: did you mean 'heads'"):
        ATTENTION.replace(head=4)


def test_plain_data_builds_nothing() -> None:
    with pytest.raises(ConfigError, match="builds nothing"):
        Numbers(count=1).build()


def test_check_divides() -> None:
    check_divides(3, 12, "heads", "width")
    for divisor in (5, 0, -3, 24):
        with pytest.raises(
            ConfigError, match=rf"heads = {divisor}: must divide width = 12: one of \[1, 2, 3, 4, 6, 12\]"
        ):
            check_divides(divisor, 12, "heads", "width")


def test_check() -> None:
    check(True, "field", 1, "remedy")
    with pytest.raises(ConfigError, match="field = 1: remedy"):
        check(False, "field", 1, "remedy")


def test_suggest() -> None:
    assert suggest("widow", ["window", "linear"]) == "did you mean 'window'? known: linear, window"
    assert suggest("zzz", ["window", "linear"]) == "known: linear, window"
