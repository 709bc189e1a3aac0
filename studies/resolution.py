"""Chunks that are learnt, begin at spaces, or have a fixed length, against MEGABYTE and byte models without chunks, on
Python source code at equal FLOPs.

The order to compare with is that of H-Net's Table 2 (arXiv 2507.07955): learned, then at spaces, then fixed, then dense
and state-space models over bytes. Sized for two CPU cores: small models, read at a context of 512 bytes.
"""

from everlong.lab import Architecture, EqualFlops, HeldOut, Study, TrainingBytes
from everlong.resolution.chunkers import FixedPatches, SpaceLike
from everlong.train import WSD, DataConfig, Muon, Trainer

OUTER = {"outer_width": 64}
SPACES = SpaceLike.Config(width=64, bytes_per_chunk=5.0)
FIXED = FixedPatches.Config(width=64, size=5)


def study() -> Study:
    return Study(
        name="resolution",
        architectures=(
            Architecture(name="transformer", preset="transformer:nano", overrides={"width": 64, "heads": 2}),
            Architecture(name="mamba", preset="mamba:nano", overrides={"layers": 3}),
            Architecture(name="hnet", preset="hnet:nano", overrides={**OUTER, "bytes_per_chunk": 5.0}),
            Architecture(name="spaces", preset="hnet:nano", overrides={**OUTER, "chunker": SPACES}),
            Architecture(name="fixed", preset="hnet:nano", overrides={**OUTER, "chunker": FIXED}),
            Architecture(name="megabyte", preset="megabyte:nano"),
        ),
        matching=(EqualFlops(),),
        budget=TrainingBytes(bytes=1_000_000),
        learning_rates=(0.003, 0.01),
        seeds=(0, 1, 2),
        training=Trainer.Config(
            steps=1,
            window=512,
            batch=8,
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
