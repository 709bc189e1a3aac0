"""LongNet against full attention and the fixed sparse pattern at equal FLOPs, each trained at contexts of 256 to
2,048 bytes and read at the length that it was trained at, on Python source code.

Every update learns from 4,096 bytes, in windows as long as the context. Sized for two CPU cores.
"""

from everlong.lab import Architecture, EqualFlops, HeldOut, Study, TrainingBytes
from everlong.train import WSD, DataConfig, Muon, Trainer

HEADS = {"heads": 4}
SPARSE = {**HEADS, "block": 64, "summary": 8}
LONGNET = {**HEADS, "segment_lengths": (128, 512, 2048), "dilations": (1, 2, 4)}


def study() -> Study:
    return Study(
        name="longnet",
        architectures=(
            Architecture(name="transformer.256", preset="transformer:nano", overrides={"width": 96, **HEADS}),
            Architecture(name="transformer.2048", preset="transformer:nano", overrides=HEADS, window=2048),
            Architecture(name="sparse.2048", preset="sparse:nano", overrides=SPARSE, window=2048),
            Architecture(name="longnet.512", preset="longnet:nano", overrides=LONGNET, window=512),
            Architecture(name="longnet.2048", preset="longnet:nano", overrides=LONGNET, window=2048),
        ),
        matching=(EqualFlops(),),
        budget=TrainingBytes(bytes=1_200_000),
        learning_rates=(0.01, 0.03, 0.1),
        seeds=(0, 1, 2),
        training=Trainer.Config(
            steps=1,
            window=256,
            batch=16,
            optimizer=Muon.Config(),
            schedule=WSD(decay=0.5),
            evaluate_every=None,
            checkpoint_every=200,
            keep=1,
        ),
        data=DataConfig(validation_fraction=0.1),
        held_out=HeldOut(bytes=200_000, batch=4),
        state_length=2000,
        at_once=2,
    )
