"""What readers of Granite get wrong."""

from __future__ import annotations

from typing import Any

from everlong.model.scaled import Scaled
from everlong.sequence.scaled_attention import ScaledAttention
from tests.laws.mutants.base import FULL, Mutant


class LeavesTheInputAlone(Scaled):
    """Multiplies what comes out only."""

    def __init__(self, config: Scaled.Config) -> None:
        super().__init__(config)
        self.input_factor = 1.0


class ScalesOnTopOfTheRoot(ScaledAttention):
    """Multiplies scores that are divided by the root of the head size already."""

    def __init__(self, config: ScaledAttention.Config) -> None:
        super().__init__(config)
        self.factor = config.scale


ATTENTION: dict[str, Any] = {**FULL, "scale": 0.9}
FACTORS: dict[str, Any] = {"width": 8, "inner": ScaledAttention.Config(**ATTENTION), "input_factor": 2.0}
NOT_THE_ORACLE = [
    Mutant(LeavesTheInputAlone, "auto against the oracle: the output", FACTORS, Scaled.Config),
    Mutant(ScalesOnTopOfTheRoot, "auto against the oracle: the output", ATTENTION, ScaledAttention.Config),
]
