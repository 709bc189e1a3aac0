"""The catalogue itself: nothing is missing from it, and its examples depend on everything a law could break."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from collections.abc import Iterator
from typing import Any

import pytest
import torch

import everlong
from everlong import Config, Part
from everlong.testing.compare import pattern
from everlong.testing.example import make, width
from everlong.testing.split_invariant import run
from everlong.testing.stream import Stream
from tests.laws.catalogue import CATALOGUE, REPEATED

HOMES = {"sequence", "width", "depth", "resolution", "memory", "model"}
"""Where parts live: the five axes, and what joins them."""


def _configs(value: Any) -> Iterator[type[Config]]:
    """The classes of a configuration and of all that are nested in it."""
    if isinstance(value, Config):
        yield type(value)
        for field in dataclasses.fields(value):
            yield from _configs(getattr(value, field.name))
    elif isinstance(value, tuple):
        for item in value:
            yield from _configs(item)


def _parts(cls: type[Part] = Part) -> Iterator[type[Part]]:
    for subclass in cls.__subclasses__():
        if subclass.__module__.split(".")[:2] in [["everlong", home] for home in HOMES]:
            yield subclass
        yield from _parts(subclass)


def test_every_part_is_in_it() -> None:
    for module in pkgutil.walk_packages(everlong.__path__, "everlong."):
        if module.name.split(".")[1] in HOMES:
            importlib.import_module(module.name)
    assert set(CATALOGUE) > REPEATED
    quick = [example for name, example in CATALOGUE.items() if name not in REPEATED]
    entered = {config for example in quick for config in _configs(example)}
    missing = {part.__name__ for part in _parts() if part.Config not in entered}
    assert not missing, f"add a line to a file of tests/laws/entries for {missing}"


@pytest.mark.parametrize("name", CATALOGUE)
def test_depends_on_every_parameter(name: str) -> None:
    """In its outputs, or in the losses of its own that it reports in training."""
    part, stream = make(CATALOGUE[name]), Stream.random(2, 12, width(CATALOGUE[name]))
    y_BTD, _ = part(stream.x_BTD, stream.span)
    (y_BTD * pattern(y_BTD)).sum().backward()
    part.train()(stream.x_BTD, span := stream.span)
    if span.auxiliary:
        torch.stack(list(span.auxiliary.values())).sum().backward()
    for parameter_name, parameter in part.named_parameters():
        if not parameter.requires_grad:
            continue  # frozen
        if name == "window of 1" and parameter_name in ("q.weight", "k.weight"):
            continue  # who sees one position has nothing to choose
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.to_dense().abs().max() > 0.01, parameter_name


@pytest.mark.parametrize("name", CATALOGUE)
def test_depends_on_the_past(name: str) -> None:
    """What has a state uses it: another past gives another answer."""
    part = make(CATALOGUE[name])
    one, other = (Stream.random(2, 12, width(CATALOGUE[name]), seed) for seed in (0, 1))
    x_BTD, ids_BT = (
        torch.cat([b[:, :6], a[:, 6:]], 1) for a, b in ((one.x_BTD, other.x_BTD), (one.ids_BT, other.ids_BT))
    )
    mixed = dataclasses.replace(one, x_BTD=x_BTD, ids_BT=ids_BT)
    with torch.no_grad():
        difference = run(part, one, [])[0] - run(part, mixed, [])[0]
    first_after = difference[:, 6].abs().max().item()
    remembers = part.state_bytes(6) > (16 if name.startswith("preset") else 0)
    assert (first_after > 0.05) if remembers else (first_after < 1e-12)
