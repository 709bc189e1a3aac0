"""Does Mamba-2 need less compute than attention for the same bits per byte, on raw bytes of Python source code?

Both at three sizes, each with twice the training FLOPs per byte of the one before, all on the same bytes: so attention
that was given two and four times the FLOPs stands beside Mamba-2. Both have a feed-forward in every layer. Three seeds.
Sized for two CPU cores.
"""

from everlong.lab import Architecture, EqualFlops, HeldOut, Study, TrainingBytes
from everlong.train import WSD, DataConfig, Muon, Trainer

FLOPS_PER_BYTE = (1e6, 2e6, 4e6)


def study() -> Study:
    return Study(
        name="raw_bytes",
        architectures=(
            Architecture(name="attention", preset="transformer:nano"),
            Architecture(name="mamba", preset="mamba:nano", overrides={"state_size": 32}),
        ),
        matching=tuple(EqualFlops(target=target) for target in FLOPS_PER_BYTE),
        budget=TrainingBytes(bytes=400_000),
        learning_rates=(0.01, 0.02),
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
        held_out=HeldOut(bytes=100_000),
        at_once=2,
    )
