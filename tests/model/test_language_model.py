"""The language model: streams give the numbers of whole calls, rows are independent, and misuse is named.

Legend: B batch rows, T positions, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import everlong
from everlong import LanguageModel
from everlong.core.errors import ConfigError, ContextError
from everlong.core.state import repeat_rows, select_rows
from everlong.sequence.attention import Attention
from everlong.testing.compare import assert_near, assert_states_near
from everlong.testing.example import shake
from tests.laws.catalogue import FAMILIES, SHRUNK

V = 259


def nano(family: str, **overrides: Any) -> LanguageModel:
    """A preset at its nano size in float64, with blocks so short that a dozen tokens fill several."""
    model = everlong.build(f"{family}:nano", **{**SHRUNK.get(family, {}), **overrides}).double()
    shake(model)
    return model.requires_grad_(False)


def ids(B: int, T: int, seed: int = 0) -> Tensor:
    return torch.randint(V, (B, T), generator=torch.Generator().manual_seed(seed))


def decode(model: LanguageModel, ids_BT: Tensor, state: Any = None) -> tuple[Tensor, Any]:
    """Logits token by token."""
    rows = []
    for t in range(ids_BT.shape[1]):
        output = model(ids_BT[:, t : t + 1], state)
        state = output.state
        rows.append(output.logits)
    return torch.cat(rows, dim=1), state


@pytest.mark.parametrize("family", FAMILIES)
def test_decoding_equals_the_full_forward(family: str) -> None:
    model, ids_BT = nano(family), ids(2, 14)
    whole = model(ids_BT)
    logits_BTV, state = decode(model, ids_BT)
    assert_near(logits_BTV, whole.logits, 1e-10, "logits")
    assert_states_near(state, whole.state, 1e-10)
    assert whole.logits.shape == (2, 14, V)
    assert all(loss.isfinite() for loss in whole.auxiliary.values())


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in everlong.presets() if not name.endswith(("27b", "40b"))])
def test_decoding_equals_the_full_forward_at_every_size(name: str) -> None:
    with torch.no_grad():
        model, ids_BT = everlong.build(name).double(), ids(1, 24)
        assert_near(decode(model, ids_BT)[0], model(ids_BT).logits, 1e-10, "logits")


@pytest.mark.parametrize("family", FAMILIES)
def test_ragged_prompts_then_plain_decoding(family: str) -> None:
    """Prompts of different lengths, padded left and right in one batch, go on as each would alone."""
    model, lengths = nano(family), (9, 1, 6)
    prompts = [ids(1, length, seed) for seed, length in enumerate(lengths)]
    more_BT = ids(3, 5, seed=9)
    for left in (True, False):
        ids_BT, real_BT = torch.full((3, 9), 7), torch.zeros(3, 9, dtype=torch.bool)
        for b, prompt in enumerate(prompts):
            place = slice(9 - lengths[b], 9) if left else slice(0, lengths[b])
            ids_BT[b, place], real_BT[b, place] = prompt[0], True
        state = model(ids_BT, real=real_BT).state
        assert state.position_B.tolist() == list(lengths)
        found, _ = decode(model, more_BT, state)
        for b, prompt in enumerate(prompts):
            alone = model(torch.cat([prompt, more_BT[b : b + 1]], dim=1)).logits
            assert_near(found[b : b + 1], alone[:, lengths[b] :], 1e-10, f"row {b}, padded left: {left}")


@pytest.mark.parametrize("family", FAMILIES)
def test_documents_across_calls(family: str) -> None:
    """A row's document goes on over calls until its id changes, whatever stands at padding."""
    model, ids_BT = nano(family), ids(1, 12)
    documents = torch.tensor([[4, 4, 4, 99, 4, 4, 6, 6, 99, 99, 6, 4]])
    real_BT = documents != 99
    state, rows = None, []
    for begin, end in ((0, 2), (2, 4), (4, 6), (6, 9), (9, 10), (10, 12)):
        part = slice(begin, end)
        output = model(ids_BT[:, part], state, documents=documents[:, part], real=real_BT[:, part])
        state = output.state
        rows.append(output.logits)
    found = torch.cat(rows, dim=1)
    for places in ([0, 1, 2, 4, 5], [6, 7, 10], [11]):
        assert_near(found[:, places], model(ids_BT[:, places]).logits, 1e-10, f"document at {places}")
    assert state is not None
    assert state.position_B.tolist() == [1]
    assert state.document_B.tolist() == [4]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_new_document_after_plain_calls(family: str) -> None:
    model, ids_BT = nano(family), ids(1, 9)
    state = model(ids_BT[:, :5]).state
    output = model(ids_BT[:, 5:], state, documents=torch.tensor([[0, 1, 1, 1]]))
    assert_near(output.logits[:, :1], model(ids_BT[:, :6]).logits[:, -1:], 1e-10, "the old document")
    assert_near(output.logits[:, 1:], model(ids_BT[:, 6:]).logits, 1e-10, "the new document")


def test_padding_alone_changes_no_state() -> None:
    model = nano("window")
    state = model(ids(2, 6)).state
    nothing = torch.zeros(2, 3, dtype=torch.bool)
    after = model(ids(2, 3, seed=1), state, real=nothing).state
    assert torch.equal(after.position_B, state.position_B)
    assert torch.equal(after.document_B, state.document_B)
    next_ids = ids(2, 1, seed=2)
    assert_near(model(next_ids, after).logits, model(next_ids, state).logits, 1e-10, "the next token")


def test_padding_before_anything() -> None:
    model, ids_BT = nano("linear"), ids(1, 4)
    state = model(ids_BT, real=torch.zeros(1, 4, dtype=torch.bool)).state
    assert state.document_B.tolist() == [-1]
    assert_near(model(ids_BT, state).logits, model(ids_BT).logits, 1e-10, "logits")


def test_rows_can_be_forked_and_chosen() -> None:
    model, ids_BT = nano("sparse"), ids(2, 7)
    state = model(ids_BT).state
    four = repeat_rows(state, 2)
    more_BT = ids(4, 3, seed=5)
    forked = model(more_BT, four).logits
    assert_near(model(more_BT[[3]], select_rows(four, torch.tensor([3]))).logits, forked[[3]], 1e-10, "row 3")
    alone = model(torch.cat([ids_BT[1:], more_BT[3:]], dim=1)).logits[:, 7:]
    assert_near(forked[3:], alone, 1e-10, "row 3 alone")


class TestErrors:
    """Misuse is named before any work."""

    def test_no_tokens(self) -> None:
        model = nano("linear")
        for shape in ((1, 0), (0, 1)):
            with pytest.raises(ContextError, match=r"ids = .*at least one row and one token"):
                model(torch.zeros(shape, dtype=torch.long))

    def test_state_of_other_rows(self) -> None:
        model = nano("transformer")
        state = model(ids(2, 3)).state
        with pytest.raises(ContextError, match=r"state = '2 rows': ids have 3 rows; use select_rows or repeat_rows"):
            model(ids(3, 1), state)

    @pytest.mark.parametrize("wrong", [-1, V, 10**9])
    def test_ids_beyond_the_vocabulary(self, wrong: int) -> None:
        ids_BT = ids(1, 3)
        ids_BT[0, 1] = wrong
        with pytest.raises(ContextError, match=rf"ids = .*{wrong}.*: must lie in 0 .. {V - 1}"):
            nano("linear")(ids_BT)

    def test_context_limit(self) -> None:
        model = nano("transformer", context_limit=6)
        state = model(ids(1, 6)).state
        for longer in (lambda: model(ids(1, 7)), lambda: model(ids(1, 1), state)):
            with pytest.raises(ContextError, match=r"ids = '7 tokens': .*context_limit is 6"):
                longer()

    def test_context_limit_is_that_of_documents(self) -> None:
        """Neither padding nor other documents in the row count."""
        model = nano("transformer", context_limit=6)
        real_BT = torch.tensor([[True] * 6 + [False] * 3])
        padded = model(ids(1, 9), real=real_BT)
        assert_near(padded.logits[:, :6], model(ids(1, 9)[:, :6]).logits, 1e-10, "logits")
        model(ids(1, 12), documents=torch.tensor([[0] * 6 + [1] * 6]))
        with pytest.raises(ContextError, match="7 tokens"):
            model(ids(1, 12), documents=torch.tensor([[0] * 5 + [1] * 7]))

    @pytest.mark.parametrize(
        ("changes", "named"),
        [
            ({"vocabulary": 1}, "vocabulary = 1: must be at least 2"),
            ({"context_limit": 0}, "context_limit = 0: must be at least 1"),
        ],
    )
    def test_wrong_numbers(self, changes: dict[str, Any], named: str) -> None:
        body = Attention.Config(width=4, heads=1, kv_heads=1, position=None)
        config = LanguageModel.Config(**{"vocabulary": 9, "body": body, "context_limit": None, **changes})
        with pytest.raises(ConfigError, match=named):
            config.build()


def test_starts_close_to_uniform() -> None:
    """An untrained model of bytes gives about 8 bits a byte."""
    torch.manual_seed(0)
    for family in FAMILIES:
        ids_BT = ids(2, 64)
        logits = everlong.build(f"{family}:nano")(ids_BT).logits[:, :-1].flatten(0, 1)
        loss = torch.nn.functional.cross_entropy(logits, ids_BT[:, 1:].flatten())
        assert abs(loss.item() - torch.tensor(float(V)).log().item()) < 0.05, family
