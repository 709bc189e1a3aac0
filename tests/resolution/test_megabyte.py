"""MEGABYTE against the paper's equations as written there, and input that does not fit."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

import everlong
from everlong import LanguageModel, Span
from everlong.core.errors import ConfigError, ContextError
from everlong.resolution.convolutions import Convolutions
from tests.laws.entries.resolution import PARTS

BOS = 256


def as_written(model: LanguageModel, x_BT: Tensor) -> Tensor:
    """Logits of bytes x_0 .. x_{T-1}, T a multiple of P, from the paper's steps 1 to 8 (section 2): position (k, p)
    predicts x_{kP+p}. The model's BOS is the local pad of the first patch."""
    inside_BTL, body, P = local_input(model, x_BT)
    inside_NPL = inside_BTL.reshape(-1, P, inside_BTL.shape[-1])
    y_NPL, _ = body.local(inside_NPL, Span.plain_from(torch.zeros(inside_NPL.shape[:2], dtype=torch.int64)))
    return rearrange(y_NPL @ model.embedding.weight.T, "(b k) p v -> b (k p) v", b=len(x_BT))


def local_input(model: LanguageModel, x_BT: Tensor) -> tuple[Tensor, Any, int]:
    """What the local part hears at each position, from the paper's steps 1 to 6; the body, and P."""
    body: Any = model.body
    P, width = body.patch, model.config.body.width
    table_VL = model.embedding.weight * 10 * width**0.5
    h_BTG = body.embed(x_BT)
    if body.position is not None:
        h_BTG = h_BTG + body.position.weight[: x_BT.shape[1]]
    told_BKX = rearrange(h_BTG, "b (k p) g -> b k (p g)", p=P)
    pad_B1X = body.first_patch.flatten().expand(len(x_BT), 1, -1)
    told_BKX = torch.cat([pad_B1X, told_BKX[:, :-1]], dim=1)  # shifted by one patch
    out_BKX, _ = body.inner(told_BKX, Span.plain_from(x_BT[:, ::P]))
    out_BKPG = rearrange(out_BKX, "b k (p g) -> b k p g", p=P)
    local_BKPL = rearrange(table_VL[x_BT], "b (k p) l -> b k p l", p=P)
    pad_BK1L = body.first_slot.expand(*local_BKPL.shape[:2], 1, -1).clone()
    pad_BK1L[:, 0] = table_VL[BOS]
    local_BKPL = torch.cat([pad_BK1L, local_BKPL[:, :, :-1]], dim=2)  # shifted by one byte inside the patch
    return (body.told(out_BKPG) + local_BKPL).flatten(1, 2), body, P


@pytest.mark.parametrize("positions", [None, 24])
def test_is_the_paper(positions: int | None) -> None:
    model = everlong.build("megabyte:nano", positions=positions, patch=4).double()
    x_BT = torch.randint(256, (2, 24))
    told_BT = torch.cat([torch.full((2, 1), BOS), x_BT[:, :-1]], dim=1)
    assert (model(told_BT).logits - as_written(model, x_BT)).abs().max() < 1e-12


@pytest.mark.parametrize("r", [1, 3, 4])
def test_cross_patch_attention_is_the_papers(r: int) -> None:
    """In every local layer the last r keys and values of the patch before stand in front of the patch's own."""
    model = everlong.build("megabyte:nano", overlap=r, patch=4, local_layers=2).double()
    x_BT = torch.randint(256, (2, 24))
    told_BT = torch.cat([torch.full((2, 1), BOS), x_BT[:, :-1]], dim=1)
    h_BTL, body, P = local_input(model, x_BT)
    for block in body.local.blocks:
        mixer, n_BTL = block.mixer, block.mixer_norm(h_BTL)
        q, k, v = (rearrange(f(n_BTL), "b t (h e) -> b h t e", h=2) for f in (mixer.q, mixer.k, mixer.v))
        rows = []
        for p in range(0, x_BT.shape[1], P):
            first = max(0, p - r)
            place_S, slot_P = torch.arange(first - p, P), torch.arange(P)
            turned = mixer.position.turn(slot_P[None], q[:, :, p : p + P].transpose(1, 2))[0].transpose(1, 2)
            keys = mixer.position.turn(place_S[None], k[:, :, first : p + P].transpose(1, 2))[0].transpose(1, 2)
            scores = turned @ keys.transpose(-1, -2) / q.shape[-1] ** 0.5
            scores = scores.masked_fill(place_S > slot_P[:, None], -torch.inf)
            rows.append(scores.softmax(-1) @ v[:, :, first : p + P])
        h_BTL = h_BTL + mixer.out(rearrange(torch.cat(rows, dim=2), "b h t e -> b t (h e)"))
        h_BTL = h_BTL + block.feed_forward(block.feed_forward_norm(h_BTL), Span.plain_from(x_BT))[0]
    expected = body.local.norm(h_BTL) @ model.embedding.weight.T
    assert (model(told_BT).logits - expected).abs().max() < 1e-12


def test_convolutions_are_pytorchs() -> None:
    """Each layer is a causal convolution as torch has it, added to its input; where a patch begins makes no difference,
    so the same bytes 12 further left, behind as long a context, read the same."""
    part = Convolutions.Config(width=6).build().double()
    x_BTG = torch.randn(2, 40, 6, dtype=torch.float64)
    found_BTG, _ = part(x_BTG, Span.plain_from(torch.zeros(2, 40, dtype=torch.int64)))
    expected_BTG = x_BTG
    for K, layer in zip((3, 5, 7), part.layers, strict=True):
        kernel_GGK = layer.weight.view(6, K, 6).permute(0, 2, 1).flip(-1)  # type: ignore[operator]
        padded_BGT = F.pad(expected_BTG.transpose(1, 2), (K - 1, 0))
        expected_BTG = expected_BTG + F.conv1d(padded_BGT, kernel_GGK, layer.bias).relu().transpose(1, 2)  # type: ignore[arg-type]
    assert (found_BTG - expected_BTG).abs().max() < 1e-12
    later_BTG, _ = part(x_BTG[:, 12:], Span.plain_from(torch.zeros(2, 28, dtype=torch.int64)))
    assert (later_BTG[:, 12:] - found_BTG[:, 24:]).abs().max() < 1e-12  # 2 + 4 + 6 positions of context


def test_one_table_in_and_out() -> None:
    model = everlong.build("megabyte:nano")
    assert model.head.weight is model.embedding.weight
    assert everlong.config_from_dict(model.config.to_dict()) == model.config


def test_decoding_never_reads_a_byte_twice() -> None:
    """A step runs the local part over one position, and the global part over one patch or none."""
    model = everlong.build("megabyte:nano").eval()
    body: Any = model.body
    calls: dict[str, list[int]] = {"inner": [], "local": []}
    for name, lengths in calls.items():
        getattr(body, name).register_forward_hook(
            lambda _m, args, _out, lengths=lengths: lengths.append(args[0].shape[1])
        )
    with torch.no_grad():
        state = model(torch.randint(256, (3, 20))).state
        for lengths in calls.values():
            lengths.clear()
        for _ in range(16):
            state = model(torch.randint(256, (3, 1)), state).state
    assert calls == {"inner": [1, 1], "local": [1] * 16}


def test_documents_beyond_the_positions() -> None:
    model = everlong.build("megabyte:nano", positions=10)
    model(torch.zeros(1, 11, dtype=torch.int64))
    with pytest.raises(ContextError, match="bytes of a document = 11: this model knows 10 positions"):
        model(torch.zeros(1, 12, dtype=torch.int64))


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "patch": ({"patch": 5}, "patches.patch = 5: must divide patches.inner.width"),
    "no patch": ({"patch": 0}, "patches.patch = 0: must be at least 1"),
    "positions": ({"positions": 0}, "megabyte.positions = 0"),
    "vocabulary": ({"vocabulary": 1}, "megabyte.vocabulary = 1"),
    "local": ({"width": 9}, "patches.local.width = 8"),
    "encoder": ({"encoder": Convolutions.Config(width=3)}, "patches.encoder.width = 3"),
    "no taps": ({"encoder": Convolutions.Config(width=2, taps=())}, "convolutions.taps = ()"),
    "one tap": ({"encoder": Convolutions.Config(width=2, taps=(3, 1))}, "convolutions.taps = (3, 1)"),
}


@pytest.mark.parametrize("name", WRONG)
def test_errors(name: str) -> None:
    changes, message = WRONG[name]
    with pytest.raises(ConfigError, match=re.escape(message)):
        PARTS["megabyte, positions"].replace(**changes).build()
