"""What to compose: the parts of the preset `everlong`, added one by one to Mamba-2 with attention to a window, on
Python source code at equal FLOPs per byte, three seeds.

`tables` are hashed n-grams (Engram), `heads` n-gram heads, `both` has the two; `scanned` has no attention, `experts` of
eight in place of feed-forwards, and `twice` tables before the middle of the stack, too. What is best here goes against
the systems that it is made of in `against.py`. Sized for half an hour of two CPU cores.
"""

import runpy
from pathlib import Path
from typing import Any

from everlong.lab import Architecture, EqualFlops, Study
from everlong.train import DataConfig

study_on = runpy.run_path(str(Path(__file__).with_name("against.py")))["study_on"]

SHAPE = {"layers": 4, "width": 64, "heads": 2, "state_size": 32}
FIRST = {"memory_layers": (0,)}
ARMS: dict[str, dict[str, Any]] = {
    "hybrid": {"memory_layers": (), "ngram_heads": ()},
    "tables": {**FIRST, "ngram_heads": ()},
    "heads": {"memory_layers": ()},
    "both": FIRST,
    "scanned": {**FIRST, "pattern": "M"},
    "experts": {**FIRST, "experts": 8},
    "twice": {},
}
"""Changes of the preset, which is what came out best: `twice`."""


def study() -> Study:
    arms = (
        Architecture(name=name, preset="everlong:nano", overrides={**SHAPE, **changes})
        for name, changes in ARMS.items()
    )
    return study_on("composition", DataConfig(validation_fraction=0.1), tuple(arms), (EqualFlops(tolerance=0.03),))
