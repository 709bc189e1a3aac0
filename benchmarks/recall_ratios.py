"""Multi-query associative recall against bytes of state, for Mamba-2 and attention in the ratios of studies/ratios.py.

Trained and measured as in `recall.py`, at one width, since eight layers of it take minutes a cell. Mamba-2's heads are
as many as attention's, and its states small, so that eight pairs are more than they hold.
"""

from __future__ import annotations

from typing import Any

from benchmarks.recall import keep

PATTERNS = {"mamba": "M", "9to1": "M9T", "7to1": "M7T", "3to1": "M3T", "1to1": "MT", "attention": "T"}
FAMILIES: dict[str, dict[str, Any]] = {
    name: {"name": "hybrid:nano", "pattern": pattern, "layers": 10 if name == "9to1" else 8, "state_size": 16}
    for name, pattern in PATTERNS.items()
}
WIDTHS = (32,)


def main() -> None:
    """Trains every model and keeps the result."""
    keep("recall_ratios", FAMILIES, WIDTHS)


if __name__ == "__main__":
    main()
