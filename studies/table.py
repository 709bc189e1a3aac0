"""The big table: every architecture at equal FLOPs per byte on raw bytes of Python source code, three seeds.

Besides bits per byte it has what each answers of long-context suites (models of this size, trained on code, hardly
answer any), how fast it reads and writes, and its state after a million bytes. Windows are of 512 bytes, so that
segments, windows and chunks are shorter than a text. Sized for two CPU cores and 45 minutes.
"""

from typing import Any

from everlong.lab import Architecture, EqualFlops, HeldOut, Questions, Study, TrainingBytes
from everlong.train import WSD, DataConfig, Muon, Trainer

SHAPE = {"layers": 3, "width": 64, "heads": 2}
OUTER = {"outer_width": 64}

CONTENDERS: dict[str, dict[str, Any]] = {
    "transformer": SHAPE,
    "sparse": {"block": 64, "summary": 8},
    "linear": {},
    "longnet": {"segment_lengths": (64, 256, 1024), "dilations": (1, 2, 4)},
    "infini": {"segment": 128},
    "mod": {},
    "infini-mod": {"segment": 128},
    "megabyte": {},
    "mamba": {"layers": 3},
    "hybrid": {},
    "spacebyte": OUTER,
    "hnet": OUTER,
    "hnet2": {},
    "moe": {},
    "engram": {"rows": 2**14},
    "engram-moe": {"rows": 2**14},
    "everlong": {"rows": 2**14},
}
"""Presets, and what is changed in them; layers, widths and heads are found where they are free."""


def study() -> Study:
    return Study(
        name="table",
        architectures=tuple(
            Architecture(name=name.replace("-", "_"), preset=f"{name}:nano", overrides=overrides)
            for name, overrides in CONTENDERS.items()
        ),
        matching=(EqualFlops(tolerance=0.03),),
        budget=TrainingBytes(bytes=500_000),
        learning_rates=(0.01, 0.03),
        seeds=(0, 1, 2),
        training=Trainer.Config(
            steps=1,
            window=512,
            batch=8,
            optimizer=Muon.Config(),
            schedule=WSD(decay=0.5),
            evaluate_every=None,
            checkpoint_every=None,
            keep=1,
        ),
        data=DataConfig(validation_fraction=0.1),
        held_out=HeldOut(bytes=100_000),
        metrics=("bits_per_byte", "by_position", "recall", "passkey", "needle-queries", "speed"),
        questions=Questions(lengths=(1024,), examples=20),
        state_length=1_000_000,
        at_once=2,
    )
