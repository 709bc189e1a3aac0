"""What n-gram memory does, counted in cases that can be counted by hand."""

from __future__ import annotations

import pytest
import torch

import everlong
from everlong.core.errors import ConfigError
from everlong.evaluate.ngrams import memories, occupancy, switched_off

SIZES = {"layers": 2, "width": 16, "heads": 2, "orders": (1, 2), "hash_heads": 2, "row_width": 4}


def built(family: str = "engram", rows: int = 400) -> everlong.LanguageModel:
    torch.manual_seed(0)
    model = everlong.build(f"{family}:nano", rows=rows, **SIZES)
    with torch.no_grad():
        for memory in memories(model).values():
            memory.table.rows.normal_()
    return model.eval()


@pytest.mark.parametrize("family", ["engram", "over-encoding"])
def test_switched_off_is_the_model_without_it(family: str) -> None:
    """The same logits as with rows of zero, whole and token by token, and as before when it is over."""
    model, ids_BT = built(family), torch.randint(256, (2, 9))
    before = model(ids_BT).logits
    with switched_off(model):
        without = model(ids_BT).logits
        state, decoded = None, []
        for ids_B1 in ids_BT.split(1, dim=1):
            output = model(ids_B1, state)
            state = output.state
            decoded.append(output.logits)
    assert torch.equal(model(ids_BT).logits, before)
    (memory,) = memories(model).values()
    torch.nn.init.zeros_(memory.table.rows)
    assert torch.equal(model(ids_BT).logits, without)
    assert torch.allclose(torch.cat(decoded, dim=1), without, atol=1e-5)
    assert not torch.allclose(before, without)


def test_occupancy_is_what_counting_says() -> None:
    model = built(rows=3)  # so few rows that n-grams must meet
    (memory,) = memories(model).values()
    ids_BT = torch.tensor([[1, 2, 1, 2, 3], [1, 2, 2, 2, 2]])
    memory.table.rows.data[3:] = 0.0  # the first head of single tokens alone is written to
    found = {one.order: one for one in occupancy(model, [ids_BT[:1], ids_BT[1:]])}
    assert (found[1].distinct, found[2].distinct) == (3, 5)  # 1 2 3; pad-1 12 21 23 22
    assert (found[1].reads, found[1].heads, found[1].rows) == (10, 2, 4)
    primes = memory.hash.config.primes
    assert primes[0] == (3, 5)
    rows = [[id * memory.hash.config.multipliers[0] % prime for id in (1, 2, 3)] for prime in (3, 5)]
    alone = [[row.count(one) == 1 for one in row] for row in rows]
    assert found[1].colliding == pytest.approx(sum(not a for head in alone for a in head) / 6)
    both = [not any(pair) for pair in zip(*alone, strict=True)]
    assert found[1].colliding_everywhere == pytest.approx(sum(both) / 3)
    assert found[1].used == pytest.approx((len(set(rows[0])) / 3 + len(set(rows[1])) / 5) / 2)
    assert found[1].hits == pytest.approx(0.5)
    assert found[2].hits == 0.0


def test_a_model_without_memory_is_refused() -> None:
    plain = everlong.build("window:nano", layers=1, width=16, heads=2)
    with pytest.raises(ConfigError, match="has no n-gram memory"), switched_off(plain):
        pass
    with pytest.raises(ConfigError, match="has no n-gram memory"):
        occupancy(plain, [torch.zeros(1, 2, dtype=torch.int64)])
    with pytest.raises(ConfigError, match="texts"):
        occupancy(built(), [])
