"""Engram beyond the laws: what it changes at first, and what a step of training touches."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import everlong
from everlong import Span
from everlong.core.accounting import parameter_hints
from everlong.core.errors import ConfigError
from everlong.memory.engram import Engram
from everlong.memory.gate import Gate, Sigmoid, SignedSquareRoot
from everlong.memory.hashing import layer_hashes
from everlong.memory.short_convolution import ShortConvolution
from everlong.memory.table import Table


def small(width: int = 8, row_width: int = 4, **more: Any) -> Engram.Config:
    """A memory of pairs and triples of ten tokens."""
    hash = layer_hashes([0], vocabulary=10, orders=(2, 3), rows=50, heads=2, pad=9)[0]
    return Engram.Config(width=width, hash=hash, row_width=row_width, **more)


def test_inserting_one_changes_nothing_at_first() -> None:
    """The rows are zero, so a model gives the same logits as the same model without its memory, to the bit."""
    sizes = {"layers": 2, "width": 16, "heads": 2, "window": 8}
    memory = everlong.build("engram:nano", **sizes, rows=50)
    plain = everlong.build("window:nano", **sizes)
    kept = [name for name in memory.state_dict() if ".inner." not in name]
    plain.load_state_dict(dict(zip(plain.state_dict(), (memory.state_dict()[name] for name in kept), strict=True)))
    ids_BT = torch.randint(256, (2, 20))
    assert torch.equal(memory(ids_BT).logits, plain(ids_BT).logits)


def test_a_first_gradient_reaches_the_rows_that_were_looked_up_and_no_others() -> None:
    part = small().build()
    ids_1T = torch.tensor([[1, 2, 3, 1, 2, 3]])
    y_1TD, _ = part(torch.randn(1, 6, 8), Span.plain_from(ids_1T))
    y_1TD.square().sum().backward()
    assert part.table.rows.grad is not None
    assert part.table.rows.grad.is_sparse
    y_1TD, _ = part(torch.randn(1, 6, 8), Span.plain_from(ids_1T))
    part.zero_grad()
    y_1TD.sum().backward()
    gradient = part.table.rows.grad.coalesce()
    looked_up = part.hash(Span.plain_from(ids_1T))[0].unique()
    assert torch.equal(gradient.indices()[0], looked_up)
    assert (gradient.values().abs().amax(1) > 0).all()


@pytest.mark.parametrize(
    ("config", "shaped"),
    [(SignedSquareRoot.Config(), [2.0, -2.0, 0.0, 1.0]), (Sigmoid.Config(), [4.0, -4.0, 0.0, 1.0])],
)
def test_gates(config: Gate.Config, shaped: list[float]) -> None:
    h_BTRE, k_BTRE = torch.zeros(1, 4, 1, 4), torch.zeros(1, 4, 1, 4)
    h_BTRE[..., 0], k_BTRE[0, :, 0, 0] = 2.0, torch.tensor([4.0, -4.0, 0.0, 1.0])  # the scores
    gate_BTR1 = config.build()(h_BTRE, k_BTRE)
    assert torch.allclose(gate_BTR1.flatten(), torch.sigmoid(torch.tensor(shaped)))


@pytest.mark.parametrize("convolved", [False, True])
def test_branches_read_one_memory_each_through_a_gate_of_its_own(convolved: bool) -> None:
    """A memory of two branches is two memories of one, with the same table, values and no other weights in common."""
    convolution = ShortConvolution.Config(width=8, taps=3, dilation=2) if convolved else None
    singles = [small(convolution=convolution).build() for _ in range(2)]
    both = ShortConvolution.Config(width=16, taps=3, dilation=2, branches=2) if convolved else None
    double = small(width=16, branches=2, convolution=both).build()
    for parameter in double.parameters():
        torch.nn.init.normal_(parameter)
    weights = dict(double.named_parameters())
    for i, single in enumerate(singles):
        for name, weight in single.named_parameters():
            shared = name in ("table.rows", "value.weight")
            axis = 1 if name == "convolution.weight_KD" else 0
            weight.data.copy_(weights[name] if shared else weights[name].chunk(2, axis)[i])
    x_BTD, span = torch.randn(2, 9, 16), Span.plain_from(torch.randint(10, (2, 9)))
    expected = torch.cat([single(x, span)[0] for single, x in zip(singles, x_BTD.chunk(2, -1), strict=True)], dim=-1)
    assert torch.allclose(double(x_BTD, span)[0], expected, atol=1e-6)


def test_what_is_behind_the_gate_is_observed() -> None:
    span = Span.plain_from(torch.randint(10, (2, 5)))
    small(branches=2).build()(torch.randn(2, 5, 8), span)
    assert [list(gate_BTR.shape) for gate_BTR in span.observed["memory gate"]] == [[2, 5, 2]]


def test_a_table_of_many_rows_costs_a_step_no_more_memory_than_its_own() -> None:
    """The gradient of a million rows holds the two that were looked up."""
    table = Table(10**6, 8)
    table(torch.tensor([3, 999_999, 3])).sum().backward()
    assert table.rows.grad is not None
    gradient = table.rows.grad.coalesce()
    assert gradient.indices().tolist() == [[3, 999_999]]
    assert gradient.values().tolist() == [[2.0] * 8, [1.0] * 8]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"width": 0}, "engram.width"),
        ({"row_width": 0}, "engram.row_width"),
        ({"branches": 3}, "engram.branches"),
        ({"convolution": ShortConvolution.Config(width=4)}, "engram.convolution"),
        ({"convolution": ShortConvolution.Config(width=8, branches=2)}, "engram.convolution"),
        ({"convolution": ShortConvolution.Config(width=8, taps=0)}, "short_convolution.taps"),
        ({"convolution": ShortConvolution.Config(width=8, dilation=0)}, "short_convolution.dilation"),
    ],
)
def test_refuses_sizes_that_do_not_fit(change: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        small(**change).build()
    assert caught.value.field == field


@pytest.mark.parametrize(("size", "parameters"), [("27b", 5.79e9), ("40b", 18.53e9)])
def test_the_papers_tables(size: str, parameters: float) -> None:
    """Rows a head times the width of the memory vector times two layers (the paper says 5.7 and 18.5 billion)."""
    with torch.device("meta"):
        model = everlong.build(f"engram:{size}")
    tables = [parameter for _, parameter, hint in parameter_hints(model) if hint.sparse]
    assert len(tables) == 2
    assert sum(table.numel() for table in tables) == pytest.approx(parameters, rel=1e-3)


def test_preset_refuses_a_layer_that_is_not_there() -> None:
    with pytest.raises(ConfigError, match="memory_layers"):
        everlong.build("engram:nano", memory_layers=(3,))
