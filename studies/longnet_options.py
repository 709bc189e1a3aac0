"""What look-back, attention sinks and rotated offsets are worth to LongNet: each alone and all together, at equal FLOPs
and a context of 2,048 bytes of Python source code.

Look-back lets a query see the segment before its own besides; sinks are the document's first positions, which everyone
sees; rotation moves the heads' offsets on from layer to layer. Sized for two CPU cores.
"""

from everlong.lab import Architecture, EqualFlops, HeldOut, Study, TrainingBytes
from everlong.train import WSD, DataConfig, Muon, Trainer

LONGNET = {"heads": 4, "segment_lengths": (128, 512, 2048), "dilations": (1, 2, 4)}
OPTIONS = {
    "plain": {},
    "look_back": {"look_back": True},
    "sinks": {"sinks": 4},
    "rotation": {"rotation": 1},
    "all": {"look_back": True, "sinks": 4, "rotation": 1},
}


def study() -> Study:
    return Study(
        name="longnet_options",
        architectures=tuple(
            Architecture(name=name, preset="longnet:nano", overrides={**LONGNET, **options})
            for name, options in OPTIONS.items()
        ),
        matching=(EqualFlops(),),
        budget=TrainingBytes(bytes=800_000),
        learning_rates=(0.02,),
        seeds=(0, 1, 2),
        training=Trainer.Config(
            steps=1,
            window=2048,
            batch=2,
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
