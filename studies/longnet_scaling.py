"""How LongNet's loss falls with training FLOPs and with parameters, on Python source code: four sizes, which all learn
from the same bytes. Sized for two CPU cores.
"""

from everlong.lab import Architecture, EqualFlops, HeldOut, Study, TrainingBytes
from everlong.train import WSD, DataConfig, Muon, Trainer

FLOPS_PER_BYTE = (6e5, 1e6, 1.8e6, 3.2e6)
LONGNET = {"segment_lengths": (128, 512), "dilations": (1, 2)}


def study() -> Study:
    return Study(
        name="longnet_scaling",
        architectures=(Architecture(name="longnet", preset="longnet:nano", overrides=LONGNET),),
        matching=tuple(EqualFlops(target=target) for target in FLOPS_PER_BYTE),
        budget=TrainingBytes(bytes=400_000),
        learning_rates=(0.01, 0.02),
        seeds=(0, 1, 2),
        training=Trainer.Config(
            steps=1,
            window=512,
            batch=8,
            optimizer=Muon.Config(),
            schedule=WSD(decay=0.5),
            evaluate_every=None,
            checkpoint_every=100,
            keep=1,
        ),
        data=DataConfig(validation_fraction=0.1),
        held_out=HeldOut(bytes=100_000),
        at_once=2,
    )
