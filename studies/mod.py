"""Mixture-of-Depths against the dense Transformer at equal training FLOPs per byte, with the predictor and with the
router's own score deciding in a stream, on Python source code.

Every other of six blocks routes an eighth of the positions; what that saves goes into layers, as the paper advises. The
report tells bits per byte as a stream is decided (no look ahead), and what parts show of held-out windows: the share
that is routed, and how often the rule agrees with what training would have routed. The longer the
windows, the more alike are their best eighths, which a rule that sees one position has to tell. Sized for half an hour
of two cores.
"""

from everlong.depth.routing import RouterRule
from everlong.lab import Architecture, EqualFlops, HeldOut, Study, TrainingBytes
from everlong.train import WSD, DataConfig, Muon, Trainer

ROUTED = {"layers": 6, "heads": 2}


def study() -> Study:
    return Study(
        name="mod",
        architectures=(
            Architecture(
                name="transformer", preset="transformer:nano", overrides={"layers": 4, "width": 64, "heads": 2}
            ),
            Architecture(name="mod.predictor", preset="mod:nano", overrides=ROUTED),
            Architecture(name="mod.router", preset="mod:nano", overrides={**ROUTED, "rule": RouterRule.Config()}),
        ),
        matching=(EqualFlops(),),
        budget=TrainingBytes(bytes=2_000_000),
        learning_rates=(0.01, 0.03, 0.06),
        seeds=(0, 1, 2),
        training=Trainer.Config(
            steps=1,
            window=1024,
            batch=4,
            optimizer=Muon.Config(),
            schedule=WSD(decay=0.5),
            evaluate_every=None,
            checkpoint_every=100,
            keep=1,
        ),
        data=DataConfig(validation_fraction=0.1),
        held_out=HeldOut(bytes=200_000),
        metrics=("bits_per_byte", "by_position", "observed"),
        at_once=2,
    )
