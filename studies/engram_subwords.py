"""Experts or n-gram memory on subwords: the models of `engram.py`, with n-grams of two and three tokens, on Python
source code in 4,096 tokens (`tokenizer.py`), of which one holds three and a half bytes.

Run from the repository's root, where the tokenizer is looked for. Sized for a quarter of an hour of two CPU cores.
"""

import runpy
from pathlib import Path

from everlong.lab import EqualFlops, HeldOut, Study, TrainingBytes
from everlong.train import WSD, DataConfig, Muon, Trainer

contenders = runpy.run_path(str(Path(__file__).with_name("engram.py")))["contenders"]


def study() -> Study:
    return Study(
        name="engram_subwords",
        architectures=contenders(orders=(2, 3), row_width=20, shares=(0.5,)),
        matching=(EqualFlops(tolerance=0.03),),
        budget=TrainingBytes(bytes=250_000),
        learning_rates=(0.01, 0.03),
        seeds=(0, 1, 2),
        training=Trainer.Config(
            steps=1,
            window=128,
            batch=8,
            optimizer=Muon.Config(),
            schedule=WSD(decay=0.5),
            evaluate_every=None,
            checkpoint_every=100,
            keep=1,
        ),
        data=DataConfig(validation_fraction=0.1),
        tokenizer="studies/tokenizer.json",
        held_out=HeldOut(bytes=200_000),
        at_once=2,
    )
