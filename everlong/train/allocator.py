"""The C library's allocator, told to keep what is freed, or to give it back.

A training step allocates and frees the same large tensors over and over. glibc gives each back to the kernel, which
zeroes its pages again at the next step; kept in the process, they are used again as they are. On two cores that is
worth a fifth of a small model's step.

Where memory is short it is the other way round: between tensors of many sizes, freed memory lies in pieces too small
for the next, and the process grows to a multiple of what it holds. From the system each tensor has pages of its own.
"""

from __future__ import annotations

import ctypes
import platform

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4
"""Of glibc's `malloc.h`."""
LARGE = 2**20
"""Bytes from which on memory is given back at once, if it is to be."""


def keep_freed_memory() -> bool:
    """Keeps freed memory in this process from now on; returns whether its C library can be told so."""
    return _told({M_MMAP_MAX: 0, M_TRIM_THRESHOLD: 2**31 - 1})


def return_freed_memory() -> bool:
    """Gives freed memory back to the system from now on; returns whether its C library can be told so."""
    return _told({M_MMAP_THRESHOLD: LARGE})


def _told(options: dict[int, int]) -> bool:
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return all(mallopt(option, value) for option, value in options.items())
