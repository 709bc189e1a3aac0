"""Evaluation: bits per byte with its error and by position, against other compressors; descriptions and reports.

result = evaluate(model, corpus.validation)         # .bits_per_byte, .standard_error, .by_position
rivals = baselines(corpus.validation, corpus.train)  # .each, .solid, .xz_primed
about = describe(everlong.config("window:tiny"), window=512, batch=16, precision="bfloat16")
"""

from everlong.evaluate.bits_per_byte import BitsPerByte, ByPosition, evaluate, measure, ratio
from everlong.evaluate.compressors import Baselines, baselines
from everlong.evaluate.describe import Description, Node, describe
from everlong.evaluate.memory import Memory, training_memory
from everlong.evaluate.stretches import Stretch, Stretches

__all__ = [
    "Baselines",
    "BitsPerByte",
    "ByPosition",
    "Description",
    "Memory",
    "Node",
    "Stretch",
    "Stretches",
    "baselines",
    "describe",
    "evaluate",
    "measure",
    "ratio",
    "training_memory",
]
