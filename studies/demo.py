"""What the demo should train: its own model against hierarchies with the same n-gram memory and n-gram heads, and
against the preset `everlong`, each for as long, one after the other, on a quiet machine.

    python -m studies.demo
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from everlong.evaluate.demo import DEMO, run_demo
from everlong.evaluate.output import write_json
from studies.hierarchies import remembering

MINUTES = 2.5
KEPT = Path("studies", "results", "demo", "summary.json")
MEMORY = {name: DEMO.overrides[name] for name in ("memory_layers", "orders", "rows", "row_width")}
HEADS = DEMO.overrides["ngram_heads"]
OUTER = {"outer_width": DEMO.overrides["width"], "width": 192, "heads": 2, "layers": 1}


remembering("demo", memory=MEMORY, heads={"orders": HEADS, "window": 4096})

CONTENDERS: dict[str, tuple[str, dict[str, Any]]] = {
    "demo": (DEMO.preset, DEMO.overrides),
    "chunks at spaces": ("spaces-demo:tiny", {**OUTER, "outer_heads": 1}),
    "learned chunks": ("learned-demo:tiny", {**OUTER, "outer_layers": 1}),
    "everlong": (
        "everlong:tiny",
        {**MEMORY, "ngram_heads": HEADS, "layers": 1, "pattern": "M", "width": 128, "heads": 2},
    ),
}
"""Presets, and what is changed in them: as small as the demo's own model, or steps take too long."""


def main() -> None:
    """Trains one after the other, and keeps what each reaches."""
    KEPT.parent.mkdir(parents=True, exist_ok=True)
    found = {}
    for name, (preset, overrides) in CONTENDERS.items():
        settings = DEMO.replace(preset=preset, overrides=overrides)
        found[name] = run_demo(settings, Path("runs", "demo-study", name), minutes=MINUTES).summary()
        write_json(KEPT, found)


if __name__ == "__main__":
    main()
