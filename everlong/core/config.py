"""Configuration is nested dataclasses: each thing holds its own `Config`, and `config.build()` makes it.

A config is data: it compares, prints, and round-trips through plain dictionaries (and so through YAML). Each
config class is known by the qualified name of what it builds, e.g. `sequence.attention.Attention`, which stands
under `is` in the dictionary form, so that a saved run rebuilds exactly the parts it was made of.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, TypeVar, dataclass_transform

from everlong.core.errors import ConfigError

_INFINITE = ("inf", "-inf")
KIND = "is"  # the key that names the config class in the dictionary form

C = TypeVar("C", bound="Config")


def suggest(name: str, known: Iterable[str]) -> str:
    """The remedy for an unknown name: the closest known one, and all of them."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}known: {', '.join(known)}"


@dataclass_transform(kw_only_default=True, frozen_default=True)
@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Base of every configuration: a frozen, keyword-only dataclass. Required fields have no default."""

    registry: ClassVar[dict[str, type[Config]]] = {}
    kind: ClassVar[str]
    builds: ClassVar[type | None] = None

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        dataclasses.dataclass(frozen=True, kw_only=True)(cls)
        owner = cls.__qualname__.removesuffix(".Config")
        cls.kind = f"{cls.__module__.removeprefix('everlong.')}.{owner}"
        Config.registry[cls.kind] = cls

    def build(self) -> Any:
        """Makes what this configures."""
        if self.builds is None:
            raise ConfigError(type(self).kind, self, "this configuration is plain data and builds nothing")
        return self.builds(self)

    def replace(self: C, **changes: Any) -> C:
        """The same configuration with some fields changed; an unknown field raises `ConfigError`."""
        _check_fields(type(self), changes)
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Plain dictionaries, lists, strings and numbers only: ready for YAML or JSON."""
        fields = {f.name: _to_plain(getattr(self, f.name)) for f in dataclasses.fields(self)}
        return {KIND: type(self).kind, **fields}


class Configurable:
    """Base of everything that is made by its nested `Config`: `Thing.Config(...).build()` is `Thing(config)`."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if isinstance(config := cls.__dict__.get("Config"), type) and issubclass(config, Config):
            config.builds = cls


def config_from_dict(plain: Any) -> Any:
    """Rebuilds a config from its dictionary form.

    Raises:
        ConfigError: no dictionary, an unknown kind, an unknown or missing field, or a value of the wrong type.
    """
    check(isinstance(plain, dict), "configuration", plain, f"expected a mapping with the key {KIND!r}")
    plain = dict(plain)
    kind = plain.pop(KIND, None)
    cls = Config.registry.get(kind) if isinstance(kind, str) else None
    if cls is None:
        own = "; parts of one's own are known once EVERLONG_PARTS names their files"
        raise ConfigError(KIND, kind, suggest(str(kind), Config.registry) + own)
    _check_fields(cls, plain)
    hints = typing.get_type_hints(cls)
    values = {name: _from_plain(value, hints[name], f"{kind}.{name}") for name, value in plain.items()}
    missing = [f.name for f in dataclasses.fields(cls) if _required(f) and f.name not in values]
    if missing:
        raise ConfigError(kind, sorted(values), f"required fields are missing: {', '.join(missing)}")
    return cls(**values)


def _required(field: dataclasses.Field) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _check_fields(cls: type[Config], given: Mapping[str, Any]) -> None:
    known = {field.name for field in dataclasses.fields(cls)}
    for name, value in given.items():
        check(name in known, f"{cls.kind}.{name}", value, suggest(name, known))


def _to_plain(value: Any) -> Any:
    if isinstance(value, Config):
        return value.to_dict()
    if isinstance(value, list | tuple):
        return [_to_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _to_plain(item) for key, item in value.items()}
    if isinstance(value, float) and math.isinf(value):
        return str(value)  # JSON has no number for it
    return value


def _from_plain(value: Any, hint: Any, where: str) -> Any:
    """Reads `value` as the annotated type `hint`; numbers and strings are checked, not coerced."""
    if isinstance(value, dict) and KIND in value:
        value = config_from_dict(value)
    elif isinstance(value, list):
        inner = next((arg for arg in typing.get_args(hint) if arg is not Ellipsis), Any)
        value = tuple(_from_plain(item, inner, where) for item in value)
    elif not _fits(value, hint) and (type(value) is int or value in _INFINITE) and _fits(float(value), hint):
        value = float(value)
    if not _fits(value, hint):
        raise ConfigError(where, value, f"expected {hint}")
    return value


def _fits(value: Any, hint: Any) -> bool:
    origin = typing.get_origin(hint)
    if hint is Any:
        return True
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, option) for option in typing.get_args(hint))
    if origin is typing.Literal:
        return value in typing.get_args(hint)
    if hint is None or hint is type(None):
        return value is None
    if hint is int and isinstance(value, bool):
        return False
    return isinstance(value, origin or hint)


def check(holds: bool, field: str, value: object, remedy: str) -> None:
    """Raises `ConfigError` unless `holds`."""
    if not holds:
        raise ConfigError(field, value, remedy)


def check_divides(divisor: int, number: int, field: str, other: str) -> None:
    """Raises `ConfigError` unless `divisor` (the value of `field`) divides `number` (the value of `other`)."""
    if divisor >= 1 and number % divisor == 0:
        return
    fitting = [d for d in range(1, number + 1) if number % d == 0]
    raise ConfigError(field, divisor, f"must divide {other} = {number}: one of {fitting}")
