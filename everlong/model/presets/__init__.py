"""Presets: named architectures at named sizes, as functions that return a full configuration. One file a family."""

from everlong.model.presets import (
    attention,
    composed,
    delta,
    engram,
    hnet,
    hybrid,
    infini,
    linear,
    longnet,
    mamba,
    mamba3,
    megabyte,
    mod,
    moe,
)
from everlong.model.presets.own import load_own_parts, load_parts
from everlong.model.presets.registry import OWN_SIZES, SIZES, arguments, build, config, family, presets, sizes

__all__ = [
    "OWN_SIZES",
    "SIZES",
    "arguments",
    "attention",
    "build",
    "composed",
    "config",
    "delta",
    "engram",
    "family",
    "hnet",
    "hybrid",
    "infini",
    "linear",
    "load_parts",
    "longnet",
    "mamba",
    "mamba3",
    "megabyte",
    "mod",
    "moe",
    "presets",
    "sizes",
]

load_own_parts()
