"""The results that are kept: benchmarks/results/NAME.json, and studies/results/NAME/results.json."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from everlong.lab.results import RESULTS, Group, Results, load

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Kept:
    """What there is under a folder, such as the repository."""

    root: Path = ROOT

    def file(self, path: str) -> dict[str, Any] | None:
        """A JSON file; `None`: it is not there."""
        found = self.root / path
        return json.loads(found.read_text(encoding="utf-8")) if found.is_file() else None

    def files(self, pattern: str) -> list[dict[str, Any]]:
        """All that match, in the order of their names."""
        return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(self.root.glob(pattern))]

    def benchmark(self, name: str) -> dict[str, Any] | None:
        """What a benchmark has recorded, with what it depends on."""
        return self.file(f"benchmarks/results/{name}.json")

    def study(self, name: str) -> Results | None:
        """What a study has found."""
        folder = self.root / "studies" / "results" / name
        return load(folder) if (folder / RESULTS).is_file() else None

    def groups(self, name: str) -> dict[str, Group]:
        """The architectures of a study's first comparison by name, those with two finished seeds or more; none if the
        study is not kept."""
        results = self.study(name)
        first = [] if results is None else next(results.matchings())[1]
        return {group.name: group for group in first if len(group.runs) >= 2}


def machine(benchmark: dict[str, Any]) -> str:
    """Where a benchmark was run."""
    return f"{benchmark['threads']} threads of {benchmark['processor']}, torch {benchmark['torch']}"


def models(results: Results, *groups: Group) -> str:
    """What a comparison is made of: sizes, training and seeds."""
    sizes = [group.plan["cost"]["non_embedding"] for group in groups]
    seen = max(group.plan["bytes"] for group in groups)
    seeds = min(len(group.runs) for group in groups)
    data = ", ".join(map(corpus, results.study["data"]["sources"])) or "Python's standard library"
    span = f"{min(sizes):,}" if min(sizes) == max(sizes) else f"{min(sizes):,} to {max(sizes):,}"
    return f"{span} parameters without embedding, {seen:,} bytes to learn from ({data}), {seeds} seeds"


def corpus(source: str) -> str:
    """What a path of the data is called: a fetched corpus by its name, anything else by its file or folder."""
    path = Path(source)
    return path.parent.name.rpartition("-")[0] if path.parent.parent.name == "fetched" else path.name
