"""`everlong plan`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Annotated

import tyro

from everlong.cli.tables import memory, say, show
from everlong.core.config import check
from everlong.core.errors import ConfigError
from everlong.lab.allocation import allocate as allocated
from everlong.sequence.dilation import branches, geometric_schedule
from everlong.sequence.dilation_plan import Plan
from everlong.sequence.dilation_plan import plan as planned
from everlong.train.console import si

Length = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="TOKENS")]
Numbers = Annotated[tuple[int, ...], tyro.conf.arg(metavar="NUMBER ...")]

_SUFFIXES = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def plan(
    length: Length,
    /,
    *,
    segments: Numbers = (),
    dilations: Numbers = (),
    w0: int = 2048,
    ratio: int = 2,
    devices: int = 1,
    heads: int = 12,
    kv_heads: int | None = None,
    head: int = 64,
    bytes_each: int = 2,
) -> None:
    """Work out what dilated attention costs at a length, before anything is trained.

    For one layer and one row: forward FLOPs against dense attention, rows that a decoding cache keeps, bytes that a
    device receives when the sequence is shared among devices, the share of rows that hear nothing beyond their first
    segment, and how many layers lead from any position to any other. All by formula: a billion tokens take no longer.

    For example:
      everlong plan 32K --segments 2048 4096 8192 16384 32768 --dilations 1 2 4 6 12
      everlong plan 1G --devices 16384
      everlong plan 1M --w0 4096 --ratio 4 --devices 64 --heads 16 --kv-heads 4

    With --allocate it splits parameters between experts and n-gram memory instead: everlong plan --allocate --help

    Args:
        length: tokens, such as 32768, 32K, 1M or 1G
        segments: segment lengths; from w0 and ratio, up to the length, if not given
        dilations: one a segment length
        w0: the first segment length of a geometric schedule
        ratio: of the geometric schedule, for lengths and dilations
        devices: devices that share the sequence
        heads: query heads
        kv_heads: key/value heads; as many as query heads if not given
        head: numbers in a head
        bytes_each: bytes of a number
    """
    N = _tokens(length)
    check(bool(segments) or not dilations, "dilations", dilations, "need --segments: one for each")
    schedule = branches(*((segments, dilations) if segments else geometric_schedule(w0, ratio, max(w0, N))))
    kv = heads if kv_heads is None else kv_heads
    found = planned(schedule, length=N, devices=devices, heads=heads, kv_heads=kv, head=head, bytes_each=bytes_each)
    columns = (">segment", ">dilation", ">FLOPs", ">cache rows", ">gathered by a device")
    show(columns, _branches(found))
    say()
    show(("in all", ">", ""), _totals(found))


def allocate(
    *,
    allocate: Annotated[tuple[float, ...], tyro.conf.arg(metavar="RHO ...")],
    total: float,
    active: float,
    experts: int,
    used: int,
    memory_layers: int = 1,
    memory_width: int = 1280,
) -> None:
    """Work out how inactive parameters are split between experts and n-gram memory.

    For every share of the experts, how many experts a layer has and how large the tables are, so that the parameters
    in all and those that a token uses stay the same.

    For example, the split of the paper's Engram-27B and its neighbours:
      everlong plan --allocate 1 0.9 0.743 0.6 --total 26.04e9 --active 3.8e9 --experts 72 --used 6 --memory-layers 2

    Args:
        allocate: shares of the experts, from 0 to 1
        total: parameters without embedding and head
        active: those of them that a token uses
        experts: routed experts of a layer if there is no memory
        used: routed experts that a token uses
        memory_layers: layers that have a table
        memory_width: width of a layer's memory vector: orders x hash heads x row width
    """
    budget = {"total": total, "active": active, "experts": experts, "used": used}
    tables = {"memory_layers": memory_layers, "memory_width": memory_width}
    splits = [allocated(rho, **budget, **tables) for rho in allocate]
    columns = (">rho", ">experts", ">expert parameters", ">memory parameters", ">rows a head")
    rows = (
        (f"{s.rho:.3f}", f"{s.experts}", si(float(s.expert_parameters)), si(float(s.memory_parameters)), f"{s.rows:,}")
        for s in splits
    )
    show(columns, rows)


def prepare(arguments: Sequence[str]) -> Callable[..., None]:
    """Two plans: of dilated attention, and with `--allocate` of experts and memory."""
    chosen = any(argument.partition("=")[0] == "--allocate" for argument in arguments)
    return allocate if chosen else plan


def _tokens(text: str) -> int:
    digits, factor = (text[:-1], _SUFFIXES[text[-1]]) if text[-1:] in _SUFFIXES else (text, 1)
    if not digits.isdecimal() or not int(digits):
        raise ConfigError("length", text, "must be a whole number of tokens, such as 32768, 32K, 1M or 1G")
    return int(digits) * factor


def _branches(found: Plan) -> Iterator[tuple[str, ...]]:
    for part in found.branches:
        w, r = part.branch
        yield f"{w:,}", f"{r:,}", si(float(part.flops)), f"{part.cache_rows:,}", memory(part.gathered_bytes)


def _totals(found: Plan) -> Iterator[tuple[str, ...]]:
    yield (
        "forward FLOPs",
        si(float(found.flops)),
        f"dense {si(float(found.dense_flops))}, {found.dense_flops / found.flops:.3g} times",
    )
    yield "cache rows a head", f"{found.cache_rows:,}", f"at most; dense {found.length:,}"
    dense = memory(found.dense_gathered_bytes)
    yield "gathered by a device", memory(found.gathered_bytes), f"forward, and as much back; dense {dense}"
    counted = "" if found.local_share_of == found.length else f"of the first {found.local_share_of:,}"
    yield "rows with their first segment only", f"{found.local_share:.1%}", counted
    path = (
        ("no", "promise: some may not be joined") if found.steps is None else (str(found.steps), "at most, mask aside")
    )
    yield "layers between any two positions", *path
