"""Oracles: every part once more, as plain as its equation, for one document in float64.

An oracle takes a configuration, the weights by name, and the vectors and ids of one document from its first position
on. It knows no batch, no cache, no chunk and no kernel, and shares no code with the package. Importing this package
registers the oracles of all parts.
"""

from tests.oracles import (
    attention,
    delta,
    engram,
    experts,
    granite,
    infini,
    mamba,
    mamba3,
    mixture_of_depths,
    resolution,
    stack,
)

__all__ = [
    "attention",
    "delta",
    "engram",
    "experts",
    "granite",
    "infini",
    "mamba",
    "mamba3",
    "mixture_of_depths",
    "resolution",
    "stack",
]
