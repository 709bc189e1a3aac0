"""Which n-grams fire: terms that sum up to what the memory gives, and the n-grams that they belong to."""

from __future__ import annotations

import pytest
import torch

import everlong
from everlong.data import ByteCodec
from everlong.evaluate.fired import fired, fired_table
from everlong.evaluate.ngrams import memories
from everlong.memory.engram import Engram

CODEC = ByteCodec()
SIZES = {"layers": 1, "width": 16, "heads": 2, "memory_layers": (0,), "orders": (1, 3), "hash_heads": 2, "rows": 400}


def built() -> tuple[everlong.LanguageModel, Engram]:
    torch.manual_seed(0)
    model = everlong.build("engram:nano", **SIZES)
    (memory,) = memories(model).values()
    assert isinstance(memory, Engram)
    return model, memory


def write(memory: Engram, ids: list[int], order: int, size: float) -> None:
    """Fills the rows of the n-gram that ends a document."""
    from everlong import Span

    address_A = memory.hash(Span.plain_from(torch.tensor([ids])))[0][0, -1]
    heads = slice(0, 2) if order == 1 else slice(2, 4)
    with torch.no_grad():
        memory.table.rows[address_A[heads]] = size


def test_the_n_gram_is_named_whose_term_is_the_largest() -> None:
    """`x` fires as itself, and as the end of `abx`, whose rows are ten times as large; nothing else has any rows."""
    model, memory = built()
    write(memory, [*b"x"], 1, 0.1)
    write(memory, [*b"abx"], 3, 1.0)
    found = {one.ids: one for one in fired(model, CODEC, b"x-x-abx") if one.size > 0}
    assert {ids: one.times for ids, one in found.items()} == {(*b"x",): 2, (*b"abx",): 1}
    assert found[(*b"abx",)].size > found[(*b"x",)].size


def test_gate_and_size_are_what_the_memory_gives() -> None:
    """With rows of one order only, the length of what it gives is the size."""
    model, memory = built()
    write(memory, [*b"q"], 1, 1.0)
    given: list[torch.Tensor] = []
    hook = memory.register_forward_hook(lambda _module, _inputs, answer: given.append(answer[0]))
    (one,) = [one for one in fired(model, CODEC, b"q") if one.size > 0]
    hook.remove()
    assert one.size == pytest.approx(given[0][0, 1].norm().item(), rel=1e-5)
    gates = model(torch.tensor([[CODEC.bos, *b"q"]])).observed["memory gate"][0]
    assert one.gate == pytest.approx(gates[0, 1].item(), rel=1e-6)


def test_the_widest_gates_come_first_and_what_is_before_the_text_is_left_out() -> None:
    model, memory = built()
    torch.nn.init.normal_(memory.table.rows)
    found = fired(model, CODEC, b"some text")
    assert sum(one.times for one in found) == 1 + len(b"some text")
    assert [one.gate for one in found] == sorted((one.gate for one in found), reverse=True)
    assert all(0 <= i < CODEC.pad for one in found for i in one.ids)
    (table,) = fired_table(found, CODEC)
    assert [row[1:3] for row in table.rows] == [(f"{one.times}", f"{one.gate:.3f}") for one in found]
    texts = [row[0] for row in table.rows]
    assert any(text in texts for text in ("som", "ome", "s"))
    assert all(text.removeprefix("<256>") in "some text" for text in texts)


def test_nothing_fires_without_memory() -> None:
    assert fired_table(fired(everlong.build("window:nano"), CODEC, b"text"), CODEC) == []
