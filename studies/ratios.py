"""Mamba-2 and attention in every ratio, from one alone to the other, on Python source code: at equal FLOPs and at equal
parameters, three seeds.

Every layer has a feed-forward, so that only the mixers differ; it is what the sizes are matched by. Nine to one needs
ten layers, the others have eight. Sized for two CPU cores.
"""

from everlong.lab import Architecture, EqualFlops, EqualParameters, HeldOut, Study, TrainingBytes
from everlong.train import WSD, DataConfig, Muon, Trainer

SHAPE = {"width": 64, "heads": 2, "state_size": 32}
PATTERNS = {"9to1": "M9T", "7to1": "M7T", "3to1": "M3T", "1to1": "MT", "attention": "T"}
REFERENCE = {**SHAPE, "layers": 8, "pattern": "M", "hidden": 160}
"""Mamba-2 alone. Its layers have the most parameters, so its feed-forwards are small: the others' can grow."""


def study() -> Study:
    return Study(
        name="ratios",
        architectures=(
            Architecture(name="mamba", preset="hybrid:nano", overrides=REFERENCE),
            *(
                Architecture(
                    name=name,
                    preset="hybrid:nano",
                    overrides={**SHAPE, "layers": 10 if name == "9to1" else 8, "pattern": pattern},
                )
                for name, pattern in PATTERNS.items()
            ),
        ),
        matching=(EqualFlops(), EqualParameters()),
        budget=TrainingBytes(bytes=400_000),
        learning_rates=(0.01,),
        seeds=(0, 1, 2),
        training=Trainer.Config(
            steps=1,
            window=256,
            batch=16,
            optimizer=Muon.Config(),
            schedule=WSD(decay=0.5),
            evaluate_every=40,
            checkpoint_every=100,
            keep=1,
        ),
        data=DataConfig(validation_fraction=0.1),
        held_out=HeldOut(bytes=100_000),
        at_once=2,
    )
