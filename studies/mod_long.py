"""Mixture-of-Depths against the dense Transformer after four times as many bytes as in `studies/mod.py`, in windows of
2,048, as long as the paper's: how well the predictor follows the router of a model that is trained longer, and whether
the two are still as good as each other. Sized for three quarters of an hour of two cores.
"""

from dataclasses import replace

from everlong.lab import Study, TrainingBytes
from studies.mod import study as shorter


def study() -> Study:
    short = shorter()
    return replace(
        short,
        name="mod_long",
        architectures=tuple(each for each in short.architectures if each.name != "mod.router"),
        budget=TrainingBytes(bytes=8_000_000),
        learning_rates=(0.01,),
        training=replace(short.training, window=2048),
    )
