"""Experts or n-gram memory on subwords: the models of `engram.py`, with n-grams of two and three tokens, on Python
source code in 4,096 tokens (`tokenizer.py`), of which one holds three and a half bytes.

Run from the repository's root, where the tokenizer is looked for. Sized for a quarter of an hour of two CPU cores.
"""

import runpy
from pathlib import Path

from everlong.lab import Study, TrainingBytes

engram = runpy.run_path(str(Path(__file__).with_name("engram.py")))


def study() -> Study:
    plain = engram["study"]()
    return plain.replace(
        name="engram_subwords",
        architectures=engram["contenders"](orders=(2, 3), row_width=20, shares=(0.5,)),
        budget=TrainingBytes(bytes=250_000),
        training=plain.training.replace(window=128, batch=8),
        tokenizer="studies/tokenizer.json",
    )
