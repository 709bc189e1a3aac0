"""The state of every random number generator: Python's, NumPy's and torch's, without a pickle."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

CPU = "random:cpu"
CUDA = "random:cuda:"


def seed_all(seed: int) -> None:
    """Seeds every generator."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def random_tensors() -> dict[str, Tensor]:
    """The states of torch's generators, as bytes."""
    devices = range(torch.cuda.device_count())
    return {CPU: torch.get_rng_state(), **{f"{CUDA}{i}": torch.cuda.get_rng_state(i) for i in devices}}


def random_values() -> dict[str, Any]:
    """The states of Python's and NumPy's generators, as JSON values."""
    version, words, gauss = random.getstate()
    name, keys, place, has_gauss, cached = np.random.get_state()
    numpy_state = [name, np.asarray(keys).tolist(), place, has_gauss, cached]
    return {"python": [version, list(words), gauss], "numpy": numpy_state}


def restore_random(tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
    """Puts every generator where `random_tensors` and `random_values` found it."""
    version, words, gauss = values["python"]
    random.setstate((version, tuple(words), gauss))
    name, keys, place, has_gauss, cached = values["numpy"]
    np.random.set_state((name, np.asarray(keys, dtype=np.uint32), place, has_gauss, cached))
    torch.set_rng_state(tensors[CPU].clone())
    for i in range(torch.cuda.device_count()):
        if (state := tensors.get(f"{CUDA}{i}")) is not None:
            torch.cuda.set_rng_state(state.clone(), i)
