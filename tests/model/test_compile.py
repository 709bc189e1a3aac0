"""`torch.compile` takes a whole model as one graph, and changes no number."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.laws.catalogue import FAMILIES

QUICK = {"sparse", "mamba", "infini", "megabyte"}
"""Families with a kernel, a recurrence or a shape of their own; the others are slow tests. So is `longnet`: its dilated
attention is compiled by a quick test of its own."""


@pytest.mark.parametrize(
    "family", [family if family in QUICK else pytest.param(family, marks=pytest.mark.slow) for family in FAMILIES]
)
def test_compiles(family: str) -> None:
    command = [sys.executable, "-W", "error::UserWarning", "-m", "tests.model.one_graph", family]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
