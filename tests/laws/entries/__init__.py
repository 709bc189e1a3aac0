"""What the laws are run over, one file an architecture. A file has

    PARTS    examples by name; every part of the library stands in one,
    SHRUNK   what a preset family's arguments are set to for tests, where its own are too large,
    MIXERS   functions that draw a mixer for a random combination, given a shape (width, heads, kv_heads, position),
    NOMINAL  for a part whose cost depends on the data: what makes it choose at exactly its nominal rate,

of which it may leave out any.
"""

from tests.laws.entries import (
    attention,
    delta,
    dilated,
    engram,
    experts,
    granite,
    infini,
    linear,
    mamba,
    mamba3,
    mod,
    resolution,
    stack,
)

ENTRIES = [attention, dilated, linear, infini, engram, stack, mod, experts, mamba, mamba3, granite, delta, resolution]
