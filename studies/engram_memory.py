"""How the loss falls with the size of n-gram memory, on Python source code: the same model, ever larger tables."""

from everlong.lab import Architecture, EqualFlops, HeldOut, Study, TrainingBytes
from everlong.train import WSD, DataConfig, Muon, Trainer

ROWS = (2**10, 2**12, 2**14, 2**16, 2**18)
"""Of each of five hash heads."""


def study() -> Study:
    return Study(
        name="engram_memory",
        architectures=tuple(
            Architecture(
                name=f"rows_{rows}",
                preset="engram:nano",
                overrides={"layers": 3, "width": 96, "heads": 3, "hidden": 256, "rows": rows},
                along=("memory slots", 5 * rows),
            )
            for rows in ROWS
        ),
        matching=(EqualFlops(),),
        budget=TrainingBytes(bytes=1_000_000),
        learning_rates=(0.01, 0.03),
        seeds=(0, 1, 2),
        training=Trainer.Config(
            steps=1,
            window=256,
            batch=16,
            optimizer=Muon.Config(),
            schedule=WSD(decay=0.5),
            evaluate_every=None,
            checkpoint_every=100,
            keep=1,
        ),
        data=DataConfig(validation_fraction=0.1),
        held_out=HeldOut(bytes=200_000),
        at_once=2,
    )
