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


def run(module: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A module in a process of its own, which fails if one of its assertions does."""
    command = [sys.executable, "-m", f"tests.kernels.{module}"]
    return subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)


def test_agrees_with_the_plain_form() -> None:
    """Outputs, state and gradients, a step, errors; and ten mutants are caught."""
    told = run("ssd_triton_interpreted", TRITON_INTERPRET="1", OMP_NUM_THREADS="1")
    assert told.returncode == 0, told.stderr


@pytest.mark.slow
def test_compiles_for_a_gpu() -> None:
    """To machine code, at the published sizes; no GPU is needed for that."""
    told = run("ssd_triton_compiled", TRITON_INTERPRET="0")
    assert told.returncode == 0, told.stderr


@pytest.mark.parametrize(
    ("device", "dtype", "chosen"),
    [("cuda", torch.float32, True), ("cuda", torch.float64, False), ("cpu", torch.float32, False)],
)
def test_where_it_is_chosen(device: str, dtype: torch.dtype, chosen: bool) -> None:
    """In float32 on CUDA; everywhere else the plain form is. A tensor's place may be pretended."""
    with FakeTensorMode():
        assert by_triton(torch.empty(1, device=device, dtype=dtype)) == chosen
