"""What the tests of training share: a small store, and the smallest models and trainers that learn from it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import everlong
from everlong.data import ByteCodec, Loader, StoreWriter, TokenStore
from everlong.model.language_model import LanguageModel
from everlong.train import Trainer

WINDOW, BATCH = 16, 4


@pytest.fixture(scope="session")
def store(tmp_path_factory) -> TokenStore:
    """Twelve short documents, so that many windows hold a border."""
    folder: Path = tmp_path_factory.mktemp("train") / "store"
    random = np.random.default_rng(0)
    with StoreWriter(folder, ByteCodec()) as writer:
        for i in range(12):
            writer.add(str(i), bytes(random.integers(97, 105, size=40 + 11 * i, dtype=np.uint8)))
    return TokenStore.open(folder, ByteCodec())


@pytest.fixture(scope="session")
def small() -> Callable[..., LanguageModel]:
    """Builds the smallest model of a family that still has several blocks."""

    def build(family: str = "transformer", **overrides: Any) -> LanguageModel:
        return everlong.build(f"{family}:nano", **{"layers": 2, "width": 16, "heads": 2, **overrides})

    return build


@pytest.fixture(scope="session")
def settings() -> Callable[..., Trainer.Config]:
    """A short training in exact arithmetic, with some settings changed."""

    def make(**changes: Any) -> Trainer.Config:
        fields = {"steps": 6, "window": WINDOW, "batch": BATCH, "precision": "float32", "evaluate_every": None}
        return Trainer.Config(**{**fields, "checkpoint_every": 2, "log_every": 2, **changes})

    return make


@pytest.fixture(scope="session")
def load(store) -> Callable[[Trainer.Config], Loader]:
    """The loader that a configuration asks for."""

    def make(config: Trainer.Config) -> Loader:
        return Loader(store, window=config.window, batch=config.batch, seed=config.seed, carry=config.carry)

    return make
