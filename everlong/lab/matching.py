"""Matching: sizes at which different architectures agree in what they cost.

A size is a width, a depth, a number of heads and a feed-forward width: those of them that the preset takes and the
study has not fixed. Among all sizes of the grid whose cost lies within the tolerance of the target, the one is taken
that is shaped most like the reference. The distance of two shapes, and of a cost from its target, is the sum of

    |log of the ratio of the two|    over layers, width, width per head, hidden per width, and cost.

All costs rise with the hidden width or do not depend on it, so that one is found by bisection.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import everlong
from everlong.core.config import Config, check
from everlong.core.errors import ConfigError
from everlong.lab.cost import Scales
from everlong.model.language_model import LanguageModel
from everlong.model.presets import arguments

SIZES = ("layers", "width", "heads", "hidden")
"""Arguments of a preset that are searched."""
WIDTH_STEP, HIDDEN_STEP = 8, 8
REACH = 2.0
"""Layers and width are searched up to this factor around the reference's."""
HIDDEN_RANGE = (1.5, 4.0)
"""Hidden widths that are searched, as multiples of the width."""
HEAD_SIZES = (16, 32, 64, 128)


class Matching(Config):
    """What the models of a comparison agree in."""

    target: float | None = None
    """The value; `None`: that of the study's first architecture at its own size."""
    tolerance: float = 0.02
    """Largest relative difference from the target."""

    quantity: ClassVar[str]

    def __post_init__(self) -> None:
        check(self.target is None or self.target > 0, "matching.target", self.target, "must be above 0, or None")
        check(0 < self.tolerance < 1, "matching.tolerance", self.tolerance, "must lie between 0 and 1; 0.02 is usual")

    @property
    def label(self) -> str:
        """How the comparison is called."""
        return f"equal {self.quantity}" + ("" if self.target is None else f" ({self.target:g})")

    def value(self, config: LanguageModel.Config, scales: Scales) -> float:
        """What the quantity is for a model."""
        raise NotImplementedError


class EqualParameters(Matching):
    """Without embedding and head."""

    quantity = "parameters"

    def value(self, config: LanguageModel.Config, scales: Scales) -> float:
        return float(scales.cost(config).non_embedding)


class EqualFlops(Matching):
    """Training FLOPs per byte; with a budget in bytes or in FLOPs, all see the same bytes."""

    quantity = "FLOPs per byte"

    def value(self, config: LanguageModel.Config, scales: Scales) -> float:
        return scales.cost(config).flops_per_byte


class EqualState(Matching):
    """Bytes of state after the study's `state_length`."""

    quantity = "state bytes"

    def value(self, config: LanguageModel.Config, scales: Scales) -> float:
        return float(scales.cost(config).state_bytes)


class EqualTime(Matching):
    """Seconds per update, on this machine and with its threads. Times scatter, so the tolerance is wider."""

    quantity = "seconds per update"
    tolerance: float = 0.1

    def value(self, config: LanguageModel.Config, scales: Scales) -> float:
        return scales.seconds(config)


@dataclass(frozen=True)
class Solved:
    """A size that was found."""

    sizes: dict[str, int]
    """What is given to the preset, by argument."""
    config: LanguageModel.Config
    value: float
    target: float

    @property
    def mismatch(self) -> float:
        """Relative difference from the target."""
        return self.value / self.target - 1


def own_sizes(preset: str, overrides: Mapping[str, Any]) -> dict[str, int]:
    """The sizes of a preset as it is."""
    given = {**arguments(preset), **overrides}
    sizes = {name: given[name] for name in SIZES if name in given}
    if "hidden" in sizes and sizes["hidden"] is None:
        sizes["hidden"] = -(-8 * sizes["width"] // 3 // 32) * 32  # as the presets round it
    return sizes


def solve(
    preset: str,
    overrides: Mapping[str, Any],
    matching: Matching,
    *,
    target: float,
    like: Mapping[str, int],
    scales: Scales,
) -> Solved:
    """The size of a preset that meets a target and is shaped most like another.

    Args:
        like: sizes of the reference.

    Raises:
        ConfigError: no size comes close enough; the best is named.
    """
    best: Solved | None = None
    nearest: Solved | None = None
    for bound, shape in _shapes(preset, overrides, like):
        if best is not None and bound >= _total(best, like):
            return best  # all shapes that follow are at least as far away
        try:
            found = list(_filled(preset, overrides, shape, like, matching, target, scales))
        except ConfigError:  # a shape that this preset cannot have, such as an inside narrower than the outside
            continue
        for solved in found:
            if nearest is None or abs(solved.mismatch) < abs(nearest.mismatch):
                nearest = solved
            if abs(solved.mismatch) <= matching.tolerance:
                best = solved if best is None else min(best, solved, key=lambda each: _total(each, like))
    if best is None:
        raise _unreachable(preset, matching, target, nearest)
    return best


def _shapes(
    preset: str, overrides: Mapping[str, Any], like: Mapping[str, int]
) -> Iterator[tuple[float, dict[str, int]]]:
    """Every combination of layers, width and heads with the least distance that it can have, the closest first."""
    own, shapes = own_sizes(preset, overrides), []
    fixed = {name: own[name] for name in own if overrides.get(name) is not None}
    for width in [fixed["width"]] if "width" in fixed else _around(like["width"], WIDTH_STEP):
        for layers in [fixed["layers"]] if "layers" in fixed else _around(like["layers"], 1):
            for heads in [fixed["heads"]] if "heads" in fixed else _heads(width, like):
                shapes.append({"layers": layers, "width": width, "heads": heads})
    yield from sorted(((_distance(shape, like), shape) for shape in shapes), key=lambda item: item[0])


def _around(size: int, step: int) -> list[int]:
    """A size, and the multiples of `step` within `REACH` of it."""
    least, most = math.ceil(size / REACH / step), math.floor(size * REACH / step)
    return sorted({size, *(step * i for i in range(max(1, least), most + 1))})


def _heads(width: int, like: Mapping[str, int]) -> list[int]:
    head_sizes = {*HEAD_SIZES, like["width"] // like["heads"]}
    return sorted({width // size for size in head_sizes if width % size == 0})


def _distance(sizes: Mapping[str, int], like: Mapping[str, int]) -> float:
    """How differently two sizes are shaped; the hidden width counts if it is given."""
    ratios = [sizes[name] / like[name] for name in ("layers", "width")]
    ratios.append(sizes["width"] / sizes["heads"] * like["heads"] / like["width"])
    if "hidden" in sizes:
        ratios.append(sizes["hidden"] / sizes["width"] * like["width"] / like["hidden"])
    return sum(abs(math.log(ratio)) for ratio in ratios)


def _total(solved: Solved, like: Mapping[str, int]) -> float:
    """How far a size is from the reference, in shape and in cost."""
    return _distance(solved.sizes, like) + abs(math.log(solved.value / solved.target))


def _filled(
    preset: str,
    overrides: Mapping[str, Any],
    shape: dict[str, int],
    like: Mapping[str, int],
    matching: Matching,
    target: float,
    scales: Scales,
) -> Iterator[Solved]:
    """The hidden widths of a shape that may be best: on both sides of the target, and as in the reference."""

    def solved(hidden: int) -> Solved:
        sizes = {**shape, "hidden": hidden}
        config = everlong.config(preset, **{**overrides, **sizes})
        return Solved(sizes, config, matching.value(config, scales), target)

    if overrides.get("hidden") is not None:
        yield solved(overrides["hidden"])
        return
    scale = shape["width"] / like["width"]
    yield solved(like["hidden"] if scale == 1 else round(scale * like["hidden"] / HIDDEN_STEP) * HIDDEN_STEP)
    least, most = (round(factor * shape["width"] / HIDDEN_STEP) * HIDDEN_STEP for factor in HIDDEN_RANGE)
    choices = range(least, most + 1, HIDDEN_STEP)
    ends = solved(choices[0]), solved(choices[-1])
    yield from ends
    if ends[0].value < target < ends[1].value:
        above = bisect.bisect_left(choices, target, key=lambda hidden: solved(hidden).value)
        yield solved(choices[above - 1])
        yield solved(choices[above])


def _unreachable(preset: str, matching: Matching, target: float, nearest: Solved | None) -> ConfigError:
    told = f"no size of {preset} can be built with what the study fixes"
    if nearest is not None:
        sizes = ", ".join(f"{name}={value}" for name, value in nearest.sizes.items())
        told = f"the best of {preset} is {nearest.value:,.6g} ({nearest.mismatch:+.1%}), at {sizes}"
    remedy = f"cannot be met within {matching.tolerance:.1%}: {told}; change the target, or free a size"
    return ConfigError(f"matching.{matching.quantity}", target, remedy)
