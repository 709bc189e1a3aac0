"""`torch.compile` takes a whole model as one graph, and changes no number."""

from __future__ import annotations

import subprocess
import sys


def test_one_graph() -> None:
    command = [sys.executable, "-W", "error::UserWarning", "-m", "tests.model.one_graph"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
