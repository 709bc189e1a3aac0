"""Engram beyond the laws: what it changes at first, and what a step of training touches."""

from __future__ import annotations

import pytest
import torch

import everlong
from everlong import Span
from everlong.core.errors import ConfigError
from everlong.memory.engram import Engram, gate
from everlong.memory.hashing import layer_hashes
from everlong.memory.table import Table


def small(width: int = 8, row_width: int = 4) -> Engram.Config:
    """A memory of pairs and triples of ten tokens."""
    hash = layer_hashes([0], vocabulary=10, orders=(2, 3), rows=50, heads=2, pad=9)[0]
    return Engram.Config(width=width, hash=hash, row_width=row_width)


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


def test_gate_is_the_signed_square_root() -> None:
    h_1TD, k_1TD = torch.zeros(1, 4, 4), torch.zeros(1, 4, 4)
    h_1TD[0, :, 0], k_1TD[0, :, 0] = 2.0, torch.tensor([4.0, -4.0, 0.0, 1.0])
    expected = torch.sigmoid(torch.tensor([2.0, -2.0, 0.0, 1.0]))  # scores 4, -4, 0 and 1
    assert torch.allclose(gate(h_1TD, k_1TD)[0, :, 0], expected)


def test_a_table_of_many_rows_costs_a_step_no_more_memory_than_its_own() -> None:
    """The gradient of a million rows holds the two that were looked up."""
    table = Table(10**6, 8)
    table(torch.tensor([3, 999_999, 3])).sum().backward()
    assert table.rows.grad is not None
    gradient = table.rows.grad.coalesce()
    assert gradient.indices().tolist() == [[3, 999_999]]
    assert gradient.values().tolist() == [[2.0] * 8, [1.0] * 8]


@pytest.mark.parametrize(("change", "field"), [({"width": 0}, "engram.width"), ({"row_width": 0}, "engram.row_width")])
def test_refuses_empty_sizes(change: dict[str, int], field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        small(**change).build()
    assert caught.value.field == field


def test_preset_refuses_a_layer_that_is_not_there() -> None:
    with pytest.raises(ConfigError, match="memory_layers"):
        everlong.build("engram:nano", memory_layers=(3,))
