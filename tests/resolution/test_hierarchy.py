"""Hierarchies: what the inner part hears, what is shown and learnt, and input that is hardly there."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import everlong
from everlong import Part, Span
from everlong.core.accounting import parameter_hints
from everlong.core.errors import ConfigError, ContextError
from everlong.core.state import state_bytes
from everlong.resolution.capped import Capped
from everlong.resolution.chunkers import Chunker, FixedPatches, Opening, SpaceLike
from everlong.resolution.hierarchy import Hierarchy, confidence, straight_through
from everlong.width.swiglu import SwiGLU
from tests.laws.entries.resolution import PARTS, hierarchy

CAPPED = Capped.Config(width=8, inner=FixedPatches.Config(width=8, size=2), chunks=2, positions=5)


class Listens(Part):
    """Keeps the spans that it was given, and answers with its input."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[Span] = []

    def forward(self, x_BTD: Tensor, span: Span, state: Any = None) -> tuple[Tensor, Any]:
        self.heard.append(span)
        return x_BTD, None


def listening(chunker: Chunker.Config) -> tuple[Hierarchy, Listens]:
    part = hierarchy(chunker, SwiGLU.Config(width=8, hidden=4)).build()
    part.inner = Listens()
    return part, part.inner


def test_words_open_chunks_at_the_space_behind_them() -> None:
    part, inner = listening(SpaceLike.Config(width=8))
    text = b"One  two,\nthree \xc3\xa9t\xc3\xa9 4"
    ids_BT = torch.tensor([list(text)])
    part(torch.randn(1, len(text), 8), Span.plain_from(ids_BT))
    (span,) = inner.heard
    assert span.plain
    assert bytes(span.ids_BT[0].tolist()) == b"O ,\x20\xc3\x20"  # the first; behind One, two, three; at te, behind it
    assert span.position_BT.tolist() == [list(range(6))]


def test_rows_that_open_alike_are_plain_and_others_ragged() -> None:
    part, inner = listening(FixedPatches.Config(width=8, size=3))
    x_BTD, ids_BT = torch.randn(2, 7, 8), torch.arange(14).view(2, 7)
    _, state = part(x_BTD, Span.plain_from(ids_BT))
    part(x_BTD[:, :1], Span(ids_BT[:, :1], torch.tensor([[7]])), state)
    part(x_BTD, Span(ids_BT, torch.zeros_like(ids_BT), torch.tensor([[0] * 7, [0, 0, 1, 1, 1, 1, 1]]),
                     torch.tensor([[True] + [False] * 6, [True, False, True] + [False] * 4])))  # fmt: skip
    plain, ragged = inner.heard
    assert plain.plain
    assert plain.ids_BT.tolist() == [[0, 3, 6], [7, 10, 13]]
    assert ragged.real_BT is not None
    assert ragged.start_BT is not None
    assert ragged.real_BT.tolist() == [[True] * 3, [True] * 3]
    assert ragged.position_BT.tolist() == [[0, 1, 2], [0, 0, 1]]
    assert ragged.start_BT.tolist() == [[True, False, False], [True, True, False]]


def test_straight_through_is_one_with_a_gradient() -> None:
    p_BT = torch.tensor([[0.7, 0.2, 0.9]], requires_grad=True)
    c_BT1 = confidence(Opening(torch.tensor([[True, False, True]]), False, p_BT))
    assert c_BT1 is not None
    assert c_BT1[0, :, 0].tolist() == pytest.approx([0.7, 0.8, 0.9])
    assert straight_through(c_BT1).tolist() == [[[1.0], [1.0], [1.0]]]
    (gradient,) = torch.autograd.grad(straight_through(c_BT1).sum(), p_BT)
    assert gradient.tolist() == [[1.0, -1.0, 1.0]]


def test_inner_losses_and_sights_reach_the_outside() -> None:
    model = everlong.build("hnet2:nano")
    output = model(torch.randint(256, (1, 50)))
    assert set(output.auxiliary) == {"ratio"}
    outer, inner = output.observed["chunks/opened"]
    assert outer.shape == (1, 50)
    assert inner.shape == (1, int(outer.sum()))
    assert len(output.observed["chunks/positions"]) == 2


def test_learning_rates() -> None:
    """Multipliers of the paper's 2-stage XL: 3.03, 1.43, 0.71, each for the parts of its own stage."""
    with torch.device("meta"):
        model = everlong.build("hnet2:xl")
    rates = {name: hint.learning_rate for name, _, hint in parameter_hints(model)}
    outer = ("body.encoder.", "body.decoder.", "body.chunker.", "body.residual.", "body.wider")
    middle = tuple(name.replace("body.", "body.inner.") for name in outer)
    for name, rate in rates.items():
        if name.startswith("body."):
            told = 3.03 if name.startswith(outer) else 1.43 if name.startswith(middle) else 0.71
            assert rate == pytest.approx(told, abs=0.007), name


FAMILIES = ("hnet", "hnet2", "spacebyte", "megabyte", "megabyte3")


@pytest.mark.parametrize("family", FAMILIES)
def test_all_zero_bytes_learn(family: str) -> None:
    """NUL is a byte like any other: the loss is finite, and so is every gradient."""
    model = everlong.build(f"{family}:nano")
    output = model(torch.zeros(2, 20, dtype=torch.int64))
    loss = output.logits.logsumexp(-1).mean() + sum(output.auxiliary.values())
    loss.backward()
    assert loss.isfinite()
    for name, parameter in model.named_parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_at_the_start_are_of_usual_size(family: str) -> None:
    """Vectors that start at zero and are normalised would explode (2900 times a norm)."""
    model = everlong.build(f"{family}:nano")
    ids_BT = torch.randint(256, (2, 65))
    logits_BTV = model(ids_BT[:, :-1]).logits
    torch.nn.functional.cross_entropy(logits_BTV.flatten(0, 1), ids_BT[:, 1:].flatten()).backward()
    norms = [p.grad.norm().item() for p in model.parameters() if p.grad is not None]
    assert max(norms) < 30


@pytest.mark.parametrize("family", FAMILIES)
def test_prompts_of_all_lengths_in_one_batch(family: str) -> None:
    """Every length modulo the patch, then byte by byte: each row as it would be alone, in one call."""
    model = everlong.build(f"{family}:nano").double().eval()
    lengths_B = torch.tensor([*range(1, 10), 17])
    longest, steps = int(lengths_B.max()), 5
    ids_BT = torch.randint(256, (len(lengths_B), longest + steps))
    real_BT = torch.arange(longest) >= longest - lengths_B[:, None]
    with torch.no_grad():
        output = model(ids_BT[:, :longest], real=real_BT)
        logits = [output.logits[:, -1:]]
        for t in range(longest, longest + steps):
            output = model(ids_BT[:, t : t + 1], output.state)
            logits.append(output.logits)
        for b, length in enumerate(lengths_B.tolist()):
            alone = model(ids_BT[b : b + 1, longest - length :]).logits[0, length - 1 :]
            found = torch.cat(logits, dim=1)[b]
            assert (found - alone).abs().max() < 1e-10, f"a prompt of {length}"


def test_an_empty_row_begins_later() -> None:
    """A row of which nothing was real begins with the first plain call."""
    model = everlong.build("hnet:nano").double().eval()
    ids_BT = torch.randint(256, (2, 6))
    real_BT = torch.tensor([[True] * 4, [False] * 4])
    with torch.no_grad():
        state = model(ids_BT[:, :4], real=real_BT).state
        found = model(ids_BT[:, 4:], state).logits[1]
        alone = model(ids_BT[1:, 4:]).logits[0]
    assert (found - alone).abs().max() < 1e-10


@pytest.mark.parametrize(("chunks", "positions"), [(1, 1), (1, 4), (2, 5), (3, 7)])
def test_a_cap_keeps_the_first_chunks_of_a_stretch(chunks: int, positions: int) -> None:
    """Stretches lie on the document, and what is wanted beyond the cap goes on with the open chunk."""
    capped = Capped.Config(width=8, inner=FixedPatches.Config(width=8, size=1), chunks=chunks, positions=positions)
    part, inner = listening(capped)
    ids_BT = torch.arange(20)[None]
    document_BT = (torch.arange(20) >= 6).long()[None]
    nothing_B = torch.zeros(1, dtype=torch.int64)
    part(torch.randn(1, 20, 8), Span.ragged_from(ids_BT, document_BT, None, nothing_B, nothing_B - 1))
    expected = [t for t in range(20) if (t if t < 6 else t - 6) % positions < chunks]
    (span,) = inner.heard
    assert span.ids_BT[0].tolist() == expected
    assert capped.rate == positions / chunks


def test_room_fixes_the_shape() -> None:
    """Calls of equal length show the inner part equally many places, whatever is opened; more are an error."""
    chunker = SpaceLike.Config(width=8)
    part, inner = listening(chunker)
    part.room = 0.4
    for text in (b"one two three", b"aaaaaaaaaaaaa"):
        part(torch.randn(1, 13, 8), Span.plain_from(torch.tensor([list(text)])))
    places = [span.real_BT.tolist() for span in inner.heard if span.real_BT is not None]
    assert places == [[[True, True, True, False, False, False]], [[True] + [False] * 5]]
    crowded = Span.plain_from(torch.tensor([list(b"a b c d e f g")]))
    with pytest.raises(ContextError, match=r"chunks of a call = 7: there is room for 6: raise hierarchy\.room"):
        part(torch.randn(1, 13, 8), crowded)


def test_room_changes_no_number() -> None:
    """Places that are not filled are heard by nobody: outputs, gradients and state are those without them."""
    config = everlong.config("hnet:nano", bytes_per_chunk=3.0)
    roomy = config.replace(body=config.body.replace(room=1.0))
    torch.manual_seed(0)
    one = config.build().double()
    other = roomy.build().double()
    other.load_state_dict(one.state_dict())
    ids_BT = torch.randint(256, (3, 40))
    found = [model(ids_BT) for model in (one, other)]
    assert (found[0].logits - found[1].logits).abs().max() < 1e-12
    for output in found:
        output.logits.square().mean().backward()
        assert state_bytes(output.state) == state_bytes(found[0].state)
    for (name, p), (_, q) in zip(one.named_parameters(), other.named_parameters(), strict=True):
        assert (p.grad is None) == (q.grad is None), name
        assert p.grad is None or (p.grad - q.grad).abs().max() < 1e-12, name  # type: ignore[operator]


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "encoder": ({"encoder": SwiGLU.Config(width=9, hidden=4)}, "hierarchy.encoder.width = 9"),
    "chunker": ({"chunker": FixedPatches.Config(width=7, size=2)}, "hierarchy.chunker.width = 7"),
    "narrow inner part": ({"inner": SwiGLU.Config(width=6, hidden=4)}, "hierarchy.inner.width = 6: must be at least"),
    "patches": ({"chunker": FixedPatches.Config(width=8, size=0)}, "fixed_patches.size = 0"),
    "room": ({"room": 1.5}, "hierarchy.room = 1.5"),
    "cap": ({"chunker": CAPPED.replace(chunks=6)}, "capped.chunks = 6: must lie between 1 and the stretch's 5"),
    "capped width": ({"chunker": CAPPED.replace(inner=FixedPatches.Config(width=9, size=2))}, "capped.inner.width = 9"),
    "rate": ({"chunker": SpaceLike.Config(width=8, bytes_per_chunk=0.5)}, "space_like.bytes_per_chunk = 0.5"),
}


@pytest.mark.parametrize("name", WRONG)
def test_errors(name: str) -> None:
    changes, message = WRONG[name]
    with pytest.raises(ConfigError, match=message):
        PARTS["hierarchy, learned"].replace(**changes).build()
