"""Mixture-of-Depths and the dense Transformer of the same shape at equal FLOPs of the whole training, as the paper
compares them: what a step of Mixture-of-Depths saves goes into more bytes, and not into more layers as in
`studies/mod.py`. A dense model of four layers with as many parameters trains beside the one of six, since depth by
itself might be too dear. The report tells bits per byte and how fast each samples. Sized for half an hour of
two cores.
"""

from dataclasses import replace

from everlong.lab import Architecture, EqualParameters, Questions, Study, TrainingFlops
from studies.mod import study as per_byte

SHAPE = {"layers": 6, "width": 64, "heads": 2}


def study() -> Study:
    return replace(
        per_byte(),
        name="mod_isoflops",
        architectures=(
            Architecture(name="transformer", preset="transformer:nano", overrides=SHAPE),
            Architecture(name="transformer.shallow", preset="transformer:nano", overrides={"layers": 4, "heads": 2}),
            Architecture(name="mod", preset="mod:nano", overrides=SHAPE),
        ),
        matching=(EqualParameters(),),
        budget=TrainingFlops(flops=6e12),
        learning_rates=(0.005, 0.01),
        metrics=("bits_per_byte", "by_position", "observed", "speed"),
        questions=Questions(lengths=(1024, 4096)),
    )
