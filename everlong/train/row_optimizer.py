"""Optimizers of tables: they touch the rows that a step looked up, and no others.

Rows that nobody looked up are neither read nor written, so a step costs the same whatever the size of the table. What
is remembered of a row lives beside the table, in memory or in a file (see `everlong.memory.storage`).

Legend: R rows of a table, U rows that were looked up, D numbers of a row.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from everlong.core.config import Config, Configurable, check
from everlong.memory.storage import reserve, zeros_beside

BLOCK = 4096
"""Rows that are updated at a time: what was read of them is still in caches when it is written."""


class RowOptimizer(torch.optim.Optimizer, Configurable):
    """An optimizer of parameters (R, D) whose gradients are sparse over rows.

    Args:
        groups: torch's parameter groups, each with its `lr`.
    """

    class Config(Config):
        multiplier: float
        """Of the base learning rate."""

        def __post_init__(self) -> None:
            value = self.multiplier
            check(value > 0, "optimizer.tables.multiplier", value, "must be above 0")

        def build(self, groups: Iterable[dict[str, Any]]) -> RowOptimizer:
            """The optimizer of some tables."""
            return self.builds(self, groups)  # type: ignore[misc]  # set by Configurable

    def __init__(self, config: RowOptimizer.Config, groups: Iterable[dict[str, Any]]) -> None:
        super().__init__(groups, {})
        self.config = config
        self.memory: dict[Tensor, dict[str, Tensor]] = {}
        """What is remembered of each row, by table and kind; the first dimension is R."""
        self.changed: dict[Tensor, Bool[Tensor, " r"]] = {}
        """Rows that were updated since the last checkpoint."""

    @property
    def tables(self) -> list[Tensor]:
        """Every table, once."""
        return [table for group in self.param_groups for table in group["params"]]

    def kinds(self, table: Tensor) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
        """What is remembered of the rows of a table: shapes and types."""
        raise NotImplementedError

    def update(self, table: Tensor, row_U: Int64[Tensor, " u"], g_UD: Float[Tensor, "u d"], rate: float) -> None:
        """Updates some rows, each given once, from their summed gradients."""
        raise NotImplementedError

    def prepare(self) -> None:
        """Makes sure that `step` can write what it will write.

        Raises:
            CheckpointError: a table's disk is full; nothing was changed.
            ConfigError: there is no room to remember anything of its rows.
        """
        for table in self.tables:
            self.remember(table)
            if table.grad is not None:
                table.grad = _merged(table.grad)
                reserve(table, table.grad.indices()[0].to(table.device))

    def remember(self, table: Tensor) -> dict[str, Tensor]:
        """What is remembered of the rows of a table; zeros at first."""
        if table not in self.memory:
            kinds = self.kinds(table).items()
            self.memory[table] = {kind: zeros_beside(table, *shape, dtype=dtype) for kind, (shape, dtype) in kinds}
            self.changed[table] = zeros_beside(table, len(table), dtype=torch.bool)
        return self.memory[table]

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]  # without torch's closure
        """One update from the gradients at hand."""
        self.prepare()
        for group in self.param_groups:
            for table in group["params"]:
                if table.grad is not None:
                    blocks = (x.split(BLOCK) for x in (table.grad.indices()[0], table.grad.values()))
                    for row_U, g_UD in zip(*blocks, strict=True):
                        self.update(table, row_U, g_UD, group["lr"])
                        self.changed[table].index_fill_(0, row_U, True)

    def saved(self) -> None:
        """Tells it that a checkpoint holds everything."""
        for changed_R in self.changed.values():
            changed_R[changed_R.nonzero()[:, 0]] = False  # a page that was not written stays unwritten


def _merged(gradient: Tensor) -> Tensor:
    """The sparse gradient with every row once. Torch forgets that it is so already, and would copy it."""
    row_N = gradient._indices()[0]
    return gradient._coalesced_(True) if bool((row_N.diff() > 0).all()) else gradient.coalesce()
