"""A round trip tells the truth about what came back."""

from __future__ import annotations

import lzma

import pytest

from everlong.core.errors import CompressionError
from everlong.data import ByteCodec
from everlong.evaluate import round_trip as module
from everlong.evaluate.round_trip import reached, round_trip
from everlong.generate import compress
from everlong.train import model_fingerprint
from tests.generate.small import small

DATA = b"def f(x):\n    return x\n"


@pytest.mark.parametrize("data", [DATA, b"", bytes(range(0, 256, 8))])
def test_sizes_are_those_of_the_files(data):
    model, codec = small().eval(), ByteCodec()
    found = round_trip(model, codec, data)
    assert found.bytes == len(data)
    assert found.compressed == len(compress(model, codec, data, model_fingerprint(model, codec)))
    assert found.xz == len(lzma.compress(data, preset=9 | lzma.PRESET_EXTREME))
    assert found.restored


def test_what_does_not_come_back_is_told(monkeypatch):
    def refuse(*_, **__):
        raise CompressionError("sha256", "?", "differs")

    for decompress in (lambda *_, **__: DATA[:-1], refuse):
        monkeypatch.setattr(module, "decompress", decompress)
        assert not round_trip(small().eval(), ByteCodec(), DATA).restored


def test_totals_become_steps(monkeypatch):
    told = []

    class Told:
        def __init__(self, label, total):
            pass

        def __enter__(self):
            return told.append

        def __exit__(self, *_):
            return None

    monkeypatch.setattr(module, "progress", Told)
    with reached("x", 10) as done:
        for total in (3, 7, 10):
            done(total)
    assert told == [3, 4, 3]
