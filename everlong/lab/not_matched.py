"""What a comparison holds equal, by how much it misses, and what it does not hold equal."""

from __future__ import annotations

from collections.abc import Callable

from everlong.evaluate.report import Table
from everlong.lab.results import Group

QUANTITIES: dict[str, Callable[[Group], float]] = {
    "parameters": lambda group: group.plan["cost"]["non_embedding"],
    "parameters, all": lambda group: group.plan["cost"]["parameters"],
    "FLOPs per byte": lambda group: group.plan["cost"]["flops_per_byte"],
    "state bytes": lambda group: group.plan["cost"]["state_bytes"],
    "seconds per update": lambda group: group.plan["seconds_per_update"],
    "bytes to learn from": lambda group: group.plan["bytes"],
    "training FLOPs": lambda group: group.plan["bytes"] * group.plan["cost"]["flops_per_byte"],
}
"""As they were planned."""
MEASURED: dict[str, Callable[[Group], float]] = {"training FLOPs, measured": lambda group: group.mean("flops")}
"""Means over the finished seeds."""


def not_matched(title: str, groups: list[Group]) -> Table:
    """Every quantity with its extremes; the one that was to agree with its largest mismatch."""
    plan = groups[0].plan
    rows = [_row(name, [float(value(group)) for group in groups], plan) for name, value in QUANTITIES.items()]
    trained = [group for group in groups if group.runs]
    if trained:
        rows += [_row(name, [value(group) for group in trained], plan) for name, value in MEASURED.items()]
    caption = (
        "Seconds per update are those of the plan. FLOPs of what chooses by the data are planned at its nominal rate, "
        "and measured at the rate of its training. Besides: the shape (depth, width, heads, feed-forward) is what the "
        "matching needs; only the learning rate is tuned; data, order of bytes, batch, schedule, optimizer and "
        "precision are the same for all, and the window is where an architecture has none of its own."
    )
    return Table(title, ("quantity", "smallest", "largest", "spread", "matched"), rows, caption)


def _row(name: str, values: list[float], plan: dict) -> tuple[str, ...]:
    low, high = min(values), max(values)
    spread = high / low - 1
    matched = "no" if spread > plan["tolerance"] else "follows" if spread else "equal"
    if name == plan["quantity"]:
        worst = max((value / plan["target"] - 1 for value in values), key=abs)
        matched = f"within {plan['tolerance']:.1%}: {worst:+.2%} at worst"
    return name, f"{low:,.5g}", f"{high:,.5g}", f"{spread:.1%}", matched
