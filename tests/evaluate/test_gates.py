"""Gates over training: every head of every layer is told by the trainer, and drawn where it stood."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

import everlong
from everlong.data import Batch
from everlong.evaluate import plots
from everlong.evaluate.gates import gates_over_training
from everlong.train.objective import surprisal

LAYERS, HEADS = 3, 3


@pytest.fixture(scope="module")
def model():
    return everlong.build("infini:nano", layers=LAYERS, heads=HEADS)


def told(model, step: int) -> dict[str, float | int | str]:
    """A record as the meter makes it."""
    ids_BT = torch.arange(8)[None]
    found = surprisal(model, Batch(ids_BT, ids_BT, None, torch.tensor([8]), fresh=True))
    return {"kind": "train", "step": step, **{name: float(value) for name, value in found.observed.items()}}


def test_every_head_of_every_layer_is_told(model, monkeypatch) -> None:
    values = torch.linspace(-2, 2, LAYERS * HEADS).view(LAYERS, HEADS)
    for block, gate in zip(model.body.blocks, values, strict=True):
        block.mixer.gate.data.copy_(gate)
    drawn = []
    monkeypatch.setattr(plots, "gates", lambda *told: drawn.append(told))
    monkeypatch.setattr("everlong.evaluate.gates.inline_svg", lambda figure, title: "<svg></svg>")
    first = told(model, 10)
    for block in model.body.blocks:
        block.mixer.gate.data.neg_()
    (figure,) = gates_over_training(model, [first, {"kind": "validation", "step": 10}, told(model, 20)])
    assert "svg" in figure.svg
    ((steps, shares),) = drawn
    assert steps == [10, 20]
    np.testing.assert_allclose(shares, torch.sigmoid(torch.stack([values, -values])).numpy(), rtol=1e-6)


def test_a_line_a_head_in_a_panel_a_layer() -> None:
    figure = plots.gates([1, 2, 3], np.full((3, 5, 2), 0.5))
    panels = [axes for axes in figure.axes if axes.get_visible()]
    assert [len(axes.lines) for axes in panels] == [2] * 5


def test_nothing_is_drawn_of_models_without_gates_or_of_runs_without_records(model) -> None:
    assert gates_over_training(model, []) == []
    assert gates_over_training(everlong.build("linear:nano"), [told(model, 10)]) == []


def test_the_figure_is_markup(model) -> None:
    (figure,) = gates_over_training(model, [told(model, 10), told(model, 20)])
    assert re.match(r"<svg viewBox", figure.svg)
