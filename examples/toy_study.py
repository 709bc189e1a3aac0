"""The moving average of `toy_mixer.py` against linear attention, at equal FLOPs. A miniature: its numbers mean nothing.

EVERLONG_PARTS=examples/toy_mixer.py everlong compare examples/toy_study.py
"""

from pathlib import Path

import everlong
from everlong.lab import Architecture, EqualFlops, HeldOut, Study, TrainingBytes
from everlong.train import DataConfig, Trainer


def study() -> Study:
    return Study(
        name="toy",
        architectures=(
            Architecture(name="linear", preset="linear:nano", overrides={"layers": 1, "width": 32, "heads": 2}),
            Architecture(name="average", preset="average:nano"),
        ),
        matching=(EqualFlops(),),
        budget=TrainingBytes(bytes=64 * 8 * 10),
        learning_rates=(0.01,),
        seeds=(0, 1, 2),
        training=Trainer.Config(steps=1, window=64, batch=8, evaluate_every=None, keep=1),
        data=DataConfig(sources=(str(Path(everlong.__file__).parent / "core"),), validation_fraction=0.4),
        held_out=HeldOut(bytes=4_000, document_bytes=1_000),
        at_once=2,
    )
