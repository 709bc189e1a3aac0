"""Full, windowed, fixed sparse and linear attention on Python source code, at equal FLOPs and at equal parameters.

Sized for two CPU cores: small models, read at a context of 256 bytes.
"""

from everlong.lab import Architecture, EqualFlops, EqualParameters, HeldOut, Study, TrainingBytes
from everlong.train import WSD, DataConfig, Muon, Trainer


def study() -> Study:
    return Study(
        name="baselines",
        architectures=(
            Architecture(name="transformer", preset="transformer:nano", overrides={"width": 64, "heads": 2}),
            Architecture(name="window", preset="window:nano", overrides={"window": 64}),
            Architecture(name="sparse", preset="sparse:nano", overrides={"block": 32, "summary": 4}),
            Architecture(name="linear", preset="linear:nano"),
        ),
        matching=(EqualFlops(), EqualParameters()),
        budget=TrainingBytes(bytes=1_300_000),
        learning_rates=(0.003, 0.01, 0.03),
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
        held_out=HeldOut(bytes=200_000),
        at_once=2,
    )
