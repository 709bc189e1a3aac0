"""The allocator's settings, each in a process of its own."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, statistics, torch
from everlong.train.allocator import keep_freed_memory
if {keep}:
    assert keep_freed_memory()
faults = [resource.getrusage(resource.RUSAGE_SELF).ru_minflt]
for _ in range(20):
    torch.ones(1 << 24)
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
print(statistics.median_low(after - before for before, after in zip(faults, faults[1:])))
"""


RETURNED = """
import torch
from everlong.train.allocator import return_freed_memory
if {give_back}:
    assert return_freed_memory()
torch.ones(1 << 22)  # freed: glibc now keeps what is smaller
large, small = [], []
for _ in range(20):
    large.append(torch.ones(1 << 21))
    small.append(torch.ones(1 << 17))  # lies between the large ones, and stays
held = int(open("/proc/self/statm").read().split()[1])
large.clear()
print((held - int(open("/proc/self/statm").read().split()[1])) * 4096)
"""

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's own settings")


def measured(program: str) -> int:
    """What a program prints."""
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return int(told.stdout)


def test_freed_memory_is_used_again():
    """Of most tensors: now and then something small takes the freed place, and the next tensor needs a new one."""
    faults = {keep: measured(PROGRAM.format(keep=keep)) for keep in (False, True)}
    assert faults[True] * 10 < faults[False], faults


def test_freed_memory_is_returned():
    freed = {give_back: measured(RETURNED.format(give_back=give_back)) for give_back in (False, True)}
    assert freed[True] >= 20 * 2**23 - 2**20, freed  # the kernel's count lags by a few pages a core
    assert freed[False] < freed[True] / 2, freed
