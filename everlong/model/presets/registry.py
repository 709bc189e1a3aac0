"""The registry of presets: families by name, each a function from arguments to a full configuration.

`build("window:tiny", window=256)` calls the family's function with the size's dimensions and the overrides, then
builds. So an override changes an argument of the preset, before anything is made.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from everlong.core.config import check, suggest
from everlong.core.errors import ConfigError
from everlong.model.language_model import LanguageModel

SIZES: dict[str, dict[str, Any]] = {
    "nano": {"layers": 3, "width": 96, "heads": 3},
    "tiny": {"layers": 3, "width": 256, "heads": 2},
    "small": {"layers": 10, "width": 512, "heads": 8},
    "base": {"layers": 18, "width": 768, "heads": 12},
}
"""nano: a few 1e5 parameters, for tests; tiny: 1M to 3M, for two CPU cores; small: about 30M; base: about 125M."""

OWN_SIZES: dict[str, dict[str, dict[str, Any]]] = {}
"""Sizes by family that it has besides, such as those of its paper, or in place of the common ones."""

REQUIRED = inspect.Parameter.empty
"""What an argument without a default has in place of it."""

Family = Callable[..., LanguageModel.Config]
_families: dict[str, Family] = {}


def family(called: str | None = None, /, **own_sizes: dict[str, Any]) -> Callable[[Family], Family]:
    """Registers a preset family.

    Args:
        called: its name; `None`: its function's.
        own_sizes: sizes of its own by name, each with the arguments that it sets.
    """

    def register(function: Family) -> Family:
        name = function.__name__.replace("_", "-") if called is None else called
        _families[name], OWN_SIZES[name] = function, own_sizes
        return function

    return register


def extending(base: Callable[..., Any], **defaults: Any) -> Callable[[Family], Family]:
    """Makes a family out of another: a function of the other's configuration, with arguments of its own, becomes one
    that takes the other's arguments besides.

    Args:
        defaults: of the other's arguments, in place of its own.
    """
    inherited = inspect.signature(base).parameters

    def extend(function: Family) -> Family:
        @functools.wraps(function)
        def extended(**given: Any) -> LanguageModel.Config:
            given = {**defaults, **given}
            plain = base(**{name: given.pop(name) for name in inherited if name in given})
            return function(plain, **given)

        own = list(inspect.signature(function).parameters.values())[1:]
        others = [each.replace(default=defaults.get(name, each.default)) for name, each in inherited.items()]
        extended.__signature__ = inspect.Signature([*others, *own])  # type: ignore[attr-defined]  # inspect reads it
        return extended

    return extend


def within(whole: Callable[..., LanguageModel.Config]) -> Callable[[Callable[..., Any]], Family]:
    """Makes a family out of what configures its layers: `whole` makes a model of what the function returns, and the
    family takes the arguments of both."""

    def wrap(function: Callable[..., Any]) -> Family:
        return functools.update_wrapper(extending(function)(whole), function)

    return wrap


def presets() -> list[str]:
    """The names of all presets, `family:size`."""
    return [f"{name}:{size}" for name in sorted(_families) for size in sizes(name)]


def sizes(family: str) -> dict[str, dict[str, Any]]:
    """The sizes of a family by name, each with the arguments that it sets."""
    return SIZES | OWN_SIZES[family]


def config(name: str, **overrides: Any) -> LanguageModel.Config:
    """The full configuration of a preset.

    Args:
        name: `family:size`, one of `presets()`.
        overrides: arguments of the family's function, such as `width`, `layers`, `heads` or `vocabulary`.

    Raises:
        ConfigError: an unknown family, size or override, it names the known ones; or an argument that neither the
            family nor its size has a value for.
    """
    known = arguments(name)
    for override in overrides:
        check(override in known, override, overrides[override], suggest(override, known))
    given = {**known, **overrides}
    for argument, value in given.items():
        check(value is not REQUIRED, argument, "nothing", f"must be given, since {name} sets no value of its own")
    return _families[name.partition(":")[0]](**given)


def arguments(name: str) -> dict[str, Any]:
    """What a preset gives to its family's function by argument, defaults among them, `REQUIRED` where there is nothing.

    Raises:
        ConfigError: an unknown family or size; it names the known ones.
    """
    chosen, _, size = name.partition(":")
    if chosen not in _families:
        raise ConfigError("preset", name, suggest(chosen, _families))
    if size not in sizes(chosen):
        raise ConfigError("size", size, suggest(size, sizes(chosen)))
    known = inspect.signature(_families[chosen]).parameters
    return {**{argument: parameter.default for argument, parameter in known.items()}, **sizes(chosen)[size]}


def build(name: str, **overrides: Any) -> LanguageModel:
    """Builds a preset: `everlong.build("transformer:tiny")`. See `config`."""
    return config(name, **overrides).build()
