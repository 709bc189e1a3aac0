"""The allocator setting, in a process of its own."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, torch
from everlong.train.allocator import keep_freed_memory
if {keep}:
    assert keep_freed_memory()
for _ in range(3):
    torch.ones(1 << 24)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    torch.ones(1 << 24)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's own setting")
def test_freed_memory_is_used_again():
    faults = {}
    for keep in (False, True):
        program = PROGRAM.format(keep=keep)
        told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        faults[keep] = int(told.stdout)
    assert faults[True] * 10 < faults[False], faults
