"""The kernels for CUDA in Triton's interpreter; which form is chosen where; slowly, that they compile for a GPU."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from torch._subclasses import FakeTensorMode

from everlong.kernels.ssd import TRITON, by_triton

pytestmark = pytest.mark.skipif(not TRITON, reason="Triton is not installed: it is for Linux")


def run(module: str, **environment: str) -> None:
    """Raises AssertionError, with what it said, if a module fails in a process of its own."""
    command = [sys.executable, "-m", f"tests.kernels.{module}"]
    told = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr


def test_agrees_with_the_plain_form() -> None:
    """Outputs, state and gradients, a step, errors; and ten mutants are caught."""
    run("ssd_triton_interpreted", TRITON_INTERPRET="1", OMP_NUM_THREADS="1")


@pytest.mark.slow
def test_compiles_for_a_gpu() -> None:
    """To machine code, at the published sizes; no GPU is needed for that."""
    run("ssd_triton_compiled", TRITON_INTERPRET="0")


@pytest.mark.parametrize(
    ("device", "dtype", "chosen"),
    [("cuda", torch.float32, True), ("cuda", torch.float64, False), ("cpu", torch.float32, False)],
)
def test_where_it_is_chosen(device: str, dtype: torch.dtype, chosen: bool) -> None:
    """In float32 on CUDA; everywhere else the plain form is. A tensor's place may be pretended."""
    with FakeTensorMode():
        assert by_triton(torch.empty(1, device=device, dtype=dtype)) == chosen
