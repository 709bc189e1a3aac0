"""A demo that takes a moment: a few small files, and a model that learns next to nothing."""

from __future__ import annotations

from pathlib import Path

from everlong.evaluate.demo import Settings
from everlong.train import DataConfig, Trainer


def miniature_in(folder: Path) -> Settings:
    """Its settings, and its files written into `folder`."""
    for i in range(12):
        (folder / f"{i}.py").write_text(f"def f{i}(x):\n    return x < {i} & x\n" * (i + 3))
    return Settings(
        preset="linear:nano",
        overrides={"layers": 1, "width": 16, "heads": 1},
        training=Trainer.Config(steps=1, window=16, batch=2, log_every=1, evaluate_every=2, evaluate_windows=2),
        data=DataConfig(sources=(str(folder),), validation_fraction=0.4),
        prompt="def <T>",
        sample_tokens=20,
        file_bytes=100,
    )
