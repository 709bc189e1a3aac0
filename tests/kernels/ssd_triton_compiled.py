"""Compiles every kernel of `ssd_triton.py` to machine code for a GPU that need not be here, at the sizes of Mamba-2's
published models. Run by `test_ssd_triton.py` in a process of its own."""

from __future__ import annotations

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from everlong.kernels import ssd_triton

CONSTANTS = {"Q": ssd_triton.CHUNK, "BN": 128, "BP": 64, "BLOCK": ssd_triton.PASS}
INTEGERS = {"H", "G", "N", "P", "chunks", "size", "first", "step"}
WARPS = {"_output": ssd_triton.WARPS, "_gradients": ssd_triton.WARPS}
SHARED = 227 * 1024
"""Bytes of shared memory that a program may have on the target."""


def check_compiles(name: str) -> None:
    """Raises AssertionError if a kernel needs more shared memory than there is; a compiler's error if it has one."""
    kernel = getattr(ssd_triton, name)
    kinds = dict.fromkeys(INTEGERS, "i32") | dict.fromkeys(CONSTANTS, "constexpr") | {"document": "*i64"}
    signature = {argument: kinds.get(argument, "*fp32") for argument in kernel.arg_names}
    constants = {(i,): CONSTANTS[argument] for i, argument in enumerate(kernel.arg_names) if argument in CONSTANTS}
    options = {"num_warps": WARPS.get(name, 4)}
    found = triton.compile(ASTSource(kernel, signature, constants), target=GPUTarget("cuda", 90, 32), options=options)
    assert found.asm["cubin"]
    assert found.metadata.shared <= SHARED, f"{name} needs {found.metadata.shared} bytes of shared memory"


if __name__ == "__main__":
    for name in ("_step", "_outer", "_pass", "_output", "_gradients"):
        check_compiles(name)
