"""A miniature that goes through everything in about a minute: its numbers mean nothing."""

from pathlib import Path

import everlong
from everlong.lab import Architecture, EqualFlops, HeldOut, Study, TrainingBytes
from everlong.train import DataConfig, Trainer


def study() -> Study:
    small = {"layers": 1, "width": 32, "heads": 2}
    return Study(
        name="smoke",
        architectures=(
            Architecture(name="transformer", preset="transformer:nano", overrides=small),
            Architecture(name="linear", preset="linear:nano"),
        ),
        matching=(EqualFlops(),),
        budget=TrainingBytes(bytes=64 * 8 * 30),
        learning_rates=(0.003, 0.01),
        seeds=(0, 1, 2),
        training=Trainer.Config(steps=1, window=64, batch=8, log_every=5, evaluate_every=10, keep=1),
        data=DataConfig(sources=(str(Path(everlong.__file__).parent),), validation_fraction=0.3),
        held_out=HeldOut(bytes=10_000, document_bytes=2_000),
        at_once=2,
    )
