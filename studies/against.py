"""The preset `everlong` against the systems that it is made of, at equal FLOPs and at equal parameters, three seeds: on
Python source code here, on prose and DNA in `against_text.py` and `against_dna.py`.

Parameters count with the tables of n-grams, so at equal parameters those who have none are wider and take more FLOPs.
Sized for three quarters of an hour of two CPU cores each.
"""

from typing import Any

from everlong.lab import Architecture, EqualFlops, EqualParameters, HeldOut, Matching, Study, TrainingBytes
from everlong.train import WSD, DataConfig, Muon, Trainer

ROWS = 2**11
"""Of a table: small, so that a model without tables can have as many parameters."""
LEARNING_RATES = (0.01, 0.03)
"""To choose from: attention alone learns far better at the larger."""
CONTENDERS: dict[str, dict[str, Any]] = {
    "everlong": {"layers": 4, "width": 64, "heads": 2, "state_size": 32, "rows": ROWS},
    "transformer": {},
    "mamba": {"layers": 4, "state_size": 32},
    "hybrid": {"pattern": "M3T", "state_size": 32},
    "engram": {"rows": ROWS},
    "moe": {},
}


def study() -> Study:
    return against("against", DataConfig(validation_fraction=0.1))


def against(name: str, data: DataConfig) -> Study:
    """The preset and its parts on a corpus."""
    contenders = (
        Architecture(name=preset, preset=f"{preset}:nano", overrides=overrides)
        for preset, overrides in CONTENDERS.items()
    )
    matching = (EqualFlops(tolerance=0.03), EqualParameters(tolerance=0.03))
    return study_on(name, data, tuple(contenders), matching).replace(learning_rates=LEARNING_RATES)


def study_on(
    name: str, data: DataConfig, architectures: tuple[Architecture, ...], matching: tuple[Matching, ...]
) -> Study:
    """Any of them on a corpus, trained as all are here and in `composition.py`."""
    return Study(
        name=name,
        architectures=architectures,
        matching=matching,
        budget=TrainingBytes(bytes=500_000),
        learning_rates=(0.01,),
        seeds=(0, 1, 2),
        training=Trainer.Config(
            steps=1,
            window=512,
            batch=8,
            optimizer=Muon.Config(),
            schedule=WSD(decay=0.5),
            evaluate_every=None,
            checkpoint_every=1000,
            keep=1,
        ),
        data=data,
        held_out=HeldOut(bytes=200_000),
        at_once=2,
    )
