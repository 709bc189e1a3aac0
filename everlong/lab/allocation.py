"""Experts or memory: how a budget of parameters that are not active at every token is split between the two (Engram,
arXiv 2601.07372, sec. 3).

With P_total and P_active the parameters beside embedding and head, all of them and those that a token uses, the share
rho of P_total - P_active goes to experts and the rest to tables of n-gram memory. With E routed experts at rho = 1, of
which k are used,

    E(rho) = k + round(rho (E - k)),   P_memory = (E - E(rho)) P_expert,   P_expert = (P_total - P_active) / (E - k),
    rows a head = P_memory / (memory layers x width of the memory vector),

so P_total, P_active, k and the size of an expert are the same at every rho, and only whole experts are exchanged. The
rows that a token looks up are counted as inactive; projections of the memory are to be counted among P_active.
"""

from __future__ import annotations

from dataclasses import dataclass

from everlong.core.config import check


@dataclass(frozen=True)
class Allocation:
    """What a share of the inactive parameters comes to."""

    rho: float
    """The share of experts, after rounding to whole ones."""
    experts: int
    """Routed experts of a layer."""
    expert_parameters: int
    """Inactive parameters of all experts."""
    memory_parameters: int
    """Of all tables."""
    rows: int
    """Of a hash head, about: the hash takes primes from here on."""


def allocate(
    rho: float, *, total: float, active: float, experts: int, used: int, memory_layers: int, memory_width: int
) -> Allocation:
    """Splits inactive parameters between experts and memory.

    Args:
        rho: share of the experts, 0 .. 1.
        total: P_total.
        active: P_active.
        experts: E, routed experts of a layer without any memory.
        used: k, those of them that a token uses.
        memory_layers: layers that have a table.
        memory_width: width of a layer's memory vector: orders x heads x width of a row.

    Raises:
        ConfigError: a number is out of range.
    """
    check(0 <= rho <= 1, "rho", rho, "must be a share, from 0 (all memory) to 1 (all experts)")
    check(active > 0, "active", active, "must be above 0")
    check(total >= active, "total", total, f"must be at least the active parameters, {active:g}")
    check(0 < used < experts, "used", used, f"must be at least 1 and below the number of experts, {experts}")
    check(memory_layers >= 1, "memory_layers", memory_layers, "must be at least 1")
    check(memory_width >= 1, "memory_width", memory_width, "must be at least 1")
    kept, inactive = used + round(rho * (experts - used)), round(total - active)
    of_experts = round(inactive * (kept - used) / (experts - used))
    memory = inactive - of_experts
    rounded = (kept - used) / (experts - used)
    return Allocation(
        rho=rounded,
        experts=kept,
        expert_parameters=of_experts,
        memory_parameters=memory,
        rows=memory // (memory_layers * memory_width),
    )
