"""What README.md says of the demo: its bits per byte beside those of compressors, from the runs that are kept, one on a
processor with bfloat16 instructions and one without."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Any

import torch

import everlong
from everlong.core.accounting import parameter_count, parameter_hints
from everlong.evaluate.demo import DEMO
from studies.evidence.kept import Kept

BFLOAT16, FLOAT32 = "demo_bfloat16", "demo_float32"
COMPRESSORS = ("gzip", "bz2", "xz")


def demo(kept: Kept) -> str:
    """The run in bfloat16 in a table, and that in float32 in a sentence."""
    found, other = kept.benchmark(BFLOAT16), kept.benchmark(FLOAT32)
    if found is None or other is None:
        return "No run of it is kept; `everlong demo` makes one."
    own, xz = found["heldout_bits_per_byte"], found["each_alone"]["xz_bits_per_byte"]
    primed, trip = found["xz_primed_bits_per_byte"], found["roundtrip"]
    return "\n".join(
        [
            _filled(f"One run, {_run(found, BFLOAT16)}, by a network of {_sizes()}:"),
            "",
            f"| bits per byte of {found['heldout_documents']} unseen files | each file alone | in one piece |",
            "|---|---|---|",
            f"| Everlong | **{_bits(found)}** |  |",
            *_rivals(found),
            f"| xz, after the training files |  | {primed:.3f} |",
            "",
            _filled(
                f"The model reads every file alone, and so compared it needs {_less(own, xz)} less than xz. xz with "
                "all files in one piece finds in one what it has seen in another, and after the training files it has "
                f"their near copies at hand; the model needs {_less(own, primed)} less than that too. The round trip "
                f"of a held-out file was exact: {trip['bytes']:,} bytes in {trip['compressed']:,} "
                f"(xz: {trip['xz']:,})."
            ),
            "",
            _filled(
                "A processor that has no instructions for bfloat16 trains in float32, and gets through fewer bytes in "
                f"its time: {_bits(other)} in one run, {_run(other, FLOAT32)}."
            ),
        ]
    )


def _filled(text: str) -> str:
    return textwrap.fill(text, 120, break_long_words=False, break_on_hyphens=False)


def _run(found: dict[str, Any], name: str) -> str:
    threads, seconds, seen = found["threads"], found["train_seconds"], found["bytes_seen"] / 1e6
    numbers = f"[its numbers](benchmarks/results/{name}.json)"
    return f"{threads} threads of a shared server processor, {seconds:.0f} s, {seen:.1f} MB seen ({numbers})"


def _sizes() -> str:
    """Parameters of the network, and of its tables."""
    with torch.device("meta"):
        model = everlong.build(DEMO.preset, **DEMO.overrides)
    tables = sum(parameter.numel() for _, parameter, hint in parameter_hints(model) if hint.sparse)
    return f"{(parameter_count(model) - tables) / 1e6:.1f}M parameters beside n-gram tables of {tables / 1e6:.0f}M"


def _bits(found: dict[str, Any]) -> str:
    return f"{found['heldout_bits_per_byte']:.3f} ± {found['heldout_standard_error']:.3f}"


def _rivals(found: dict[str, Any]) -> Iterator[str]:
    for name in COMPRESSORS:
        key = f"{name}_bits_per_byte"
        yield f"| {name} | {found['each_alone'][key]:.3f} | {found[key]:.3f} |"


def _less(own: float, other: float) -> str:
    return f"{1 - own / other:.0%}"
