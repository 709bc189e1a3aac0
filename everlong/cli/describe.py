"""`everlong describe`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from everlong.cli.arguments import Model, Overrides, configured
from everlong.cli.tables import memory, say, show
from everlong.core.config import check
from everlong.data import ByteCodec
from everlong.evaluate import Description, Node
from everlong.evaluate import describe as described
from everlong.model.language_model import LanguageModel
from everlong.train import Trainer
from everlong.train.console import si
from everlong.train.precision import Precision
from everlong.train.run import read_run


def describe(
    model: Model,
    /,
    *,
    override: Overrides = (),
    window: int | None = None,
    batch: int | None = None,
    precision: Precision | None = None,
) -> None:
    """Show a model part by part, and what it costs.

    Parameters by part, FLOPs, the memory of its state after streams of 1K to 1G tokens, and the memory that
    training takes. All from its configuration alone: no weight is allocated, so any size can be looked at anywhere.

    For example:
      everlong describe window:tiny
      everlong describe transformer:base --window 4096 --batch 8
      everlong describe linear:small --override layers=4 width=256 heads=4
      everlong describe runs/demo

    Args:
        model: a preset (see `everlong presets`), or the folder of a run
        override: arguments of the preset to change, such as layers=4
        window: tokens of a row in training, and FLOPs are the mean over that many; the run's own, or 512
        batch: rows of a training batch; the run's own, or 16
        precision: of matrix products in training; the run's own, or bfloat16 where this machine multiplies it natively
    """
    config, unit, training = _looked_up(model, override)
    window = training.window if window is None else window
    batch = training.batch if batch is None else batch
    precision = training.precision if precision is None else precision
    description = described(config, window=window, batch=batch, precision=precision)
    show(("part", ">parameters", ">share", "settings"), _tree(description.tree, description.tree.parameters))
    say()
    show(("cost", ">", ""), _costs(description, unit))


def _looked_up(name: str, override: tuple[str, ...]) -> tuple[LanguageModel.Config, str, Trainer.Config]:
    """The model that a name stands for, what a token of it is, and how it is trained."""
    if Path(name).is_dir():
        check(not override, "override", " ".join(override), "changes a preset; a run is what it is")
        run, codec = read_run(Path(name))
        return run.model, "byte" if isinstance(codec, ByteCodec) else "token", run.training
    config = configured(name, override)
    return config, "byte" if config.vocabulary == ByteCodec.vocabulary else "token", Trainer.Config(steps=1)


def _tree(node: Node, total: int, stem: str = "", branch: str = "") -> Iterator[tuple[str, ...]]:
    """A row for every node; `stem` continues the lines of the nodes above, `branch` begins the node's own."""
    times = f" × {node.count}" if node.count > 1 else ""
    yield (
        f"{branch}{node.name}  {node.kind}{times}",
        f"{node.parameters:,}",
        f"{node.parameters / total:.1%}",
        node.detail,
    )
    for i, inner in enumerate(node.inside):
        last = i == len(node.inside) - 1
        yield from _tree(inner, total, stem + ("   " if last else "│  "), stem + ("└─ " if last else "├─ "))


def _costs(description: Description, unit: str) -> Iterator[tuple[str, ...]]:
    flops, training = description.flops_per_token, description.memory
    mean = f"mean over {description.window:,} tokens"
    yield f"forward FLOPs per {unit}", si(flops), mean
    yield f"training FLOPs per {unit}", si(3 * flops), mean
    for length, size in description.state_bytes.items():
        yield f"state after {length} tokens", memory(size), ""
    parts = {"weights": training.weights, "gradients": training.gradients, "optimizer": training.optimizer}
    told = ", ".join(f"{name} {memory(size)}" for name, size in parts.items())
    kept = training.activations
    told += ", activations depend on the data" if kept is None else f", activations {memory(kept)}"
    least = "at least " if kept is None else ""
    yield f"memory to train {description.batch} × {description.window}", least + memory(training.total), told
