"""Products are in bfloat16 only where the device has instructions for them, and a run's configuration says which."""

from __future__ import annotations

import pytest
import torch

from everlong.train import Trainer
from everlong.train.precision import autocast, dtype_of, native_precision

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("capabilities", "precision"),
    [
        ({"avx2": True, "avx512_f": True, "avx512_bf16": False, "amx_bf16": False}, "float32"),
        ({"avx512_bf16": True}, "bfloat16"),
        ({"amx_bf16": True, "avx512_bf16": False}, "bfloat16"),
        ({"neon": True, "bf16": True}, "bfloat16"),
        ({"neon": True, "bf16": False}, "float32"),
        ({}, "float32"),
    ],
)
def test_a_processor_is_asked_for_its_instructions(capabilities, precision, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert native_precision(CPU) == precision
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available: None)
    assert Trainer.Config(steps=1).precision == precision


@pytest.mark.parametrize(("supported", "precision"), [(True, "bfloat16"), (False, "float32")])
def test_a_gpu_is_asked_whether_it_would_emulate(supported, precision, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: supported)
    assert native_precision(torch.device("cuda")) == precision


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_products_have_the_type_that_is_asked_for(precision):
    with autocast(CPU, precision):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype_of(precision)
