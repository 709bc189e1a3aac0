"""Inspections: the numbers are the model's own, stand at the right bytes, and the page shows them."""

from __future__ import annotations

import html.parser
import math

import pytest
import torch

import everlong
from everlong.core.errors import DataError
from everlong.data import ByteCodec
from everlong.evaluate.inspect import inspect, inspection_report
from everlong.generate import Totals, score

TEXT = "A café, then two words\nand <b>.".encode()
CODEC = ByteCodec()


def test_surprisal_is_the_score() -> None:
    model, totals = everlong.build("hnet:nano").eval(), Totals()
    for piece in score(model, CODEC, TEXT):
        totals.add(piece)
    found = inspect(model, CODEC, TEXT)
    assert found.bits_per_byte == pytest.approx(totals.bits_per_byte, rel=1e-5)
    assert "".join(found.texts) == TEXT.decode()
    assert found.texts[5:7] == ["", "é"]


def test_chunks_stand_where_they_are_opened() -> None:
    found = inspect(everlong.build("spacebyte:nano").eval(), CODEC, TEXT)
    (stage,) = found.stages
    assert [i for i, opens in enumerate(stage.value_T.tolist()) if opens == 1] == [
        i for i in range(1, len(TEXT)) if not _word(TEXT[i]) and _word(TEXT[i - 1])
    ]


def _word(byte: int) -> bool:
    return (chr(byte).isascii() and chr(byte).isalnum()) or 128 <= byte < 192


def test_inner_stages_stand_at_their_own_chunks() -> None:
    found = inspect(everlong.build("hnet2:nano").eval(), CODEC, TEXT)
    outer, inner = (stage.value_T for stage in found.stages)
    assert torch.equal(~inner.isnan(), outer == 1)
    names = [track.name for track in found.tracks]
    assert names == ["chunks/probability, 1 of 2", "chunks/probability, 2 of 2"]
    assert torch.equal(~found.tracks[1].value_T.isnan(), outer == 1)
    assert set(found.means) == {f"chunks/{name}, {i} of 2" for name in ("positions", "share") for i in (1, 2)}


def test_routed_positions_are_drawn_and_gates_told() -> None:
    routed = inspect(everlong.build("mod:nano").eval(), CODEC, TEXT)
    assert any(track.name.startswith("depths/routed") for track in routed.tracks)
    assert all(len(track.value_T) == len(TEXT) for track in routed.tracks)
    gates = inspect(everlong.build("infini:nano").eval(), CODEC, TEXT)
    assert set(gates.means) == {f"infini/gate, head {h}, {i} of 3" for h in (1, 2, 3) for i in (1, 2, 3)}


class Reader(html.parser.HTMLParser):
    """The text of the marked views, and what their stretches say."""

    def __init__(self) -> None:
        super().__init__()
        self.inside, self.views, self.titles, self.tags = False, list[str](), list[str](), set[str]()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag == "pre":
            self.inside = True
            self.views.append("")
        elif self.inside:
            self.titles.append(dict(attrs)["title"] or "")

    def handle_endtag(self, tag: str) -> None:
        self.inside = self.inside and tag != "pre"

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.views[-1] += data


def test_page() -> None:
    found = inspect(everlong.build("hnet2:nano").eval(), CODEC, TEXT)
    reader = Reader()
    reader.feed(inspection_report(found, "words.txt", "runs/hnet"))
    assert len(reader.views) == 4  # surprisal, the inner stage, two probabilities
    assert set(reader.views) == {TEXT.decode().replace("é", "·é")}
    assert f"surprisal {found.bits_T[0]:.3g}" in reader.titles[0]
    assert not reader.tags & {"script", "link", "img", "b"}


def test_a_model_without_anything_to_show() -> None:
    found = inspect(everlong.build("linear:nano").eval(), CODEC, b"\x00\xff")
    assert (found.stages, found.tracks, found.means) == ([], [], {})
    assert math.isfinite(found.bits_per_byte)
    assert "\ufffd" in inspection_report(found, "x", "y")


def test_errors() -> None:
    with pytest.raises(DataError, match="is empty"):
        inspect(everlong.build("linear:nano"), CODEC, b"")
    with pytest.raises(DataError, match="the model takes 2"):
        inspect(everlong.build("linear:nano", context_limit=3), CODEC, b"abc")
