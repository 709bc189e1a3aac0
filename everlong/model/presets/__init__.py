"""Presets: named architectures at named sizes, as functions that return a full configuration. One file a family."""

from everlong.model.presets import attention, engram, linear, longnet
from everlong.model.presets.registry import OWN_SIZES, SIZES, arguments, build, config, family, presets, sizes

__all__ = [
    "OWN_SIZES",
    "SIZES",
    "arguments",
    "attention",
    "build",
    "config",
    "engram",
    "family",
    "linear",
    "longnet",
    "presets",
    "sizes",
]
