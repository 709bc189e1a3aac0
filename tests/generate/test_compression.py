"""What comes out is what went in; it takes the bits that the model's scores promise; and nothing damaged passes."""

from __future__ import annotations

import dataclasses
import math
import zlib
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from everlong import LanguageModel
from everlong.core.errors import CompressionError, ConfigError
from everlong.data import ByteCodec, standard_library
from everlong.generate import (
    Sampling,
    Totals,
    compress,
    decompress,
    default_lanes,
    generate,
    score,
)
from everlong.generate.container import MOST_LANES, MOST_THREADS, Header, pack, unpack
from everlong.train import model_fingerprint
from tests.generate.small import SHAPES, small, watch

CODEC = ByteCodec()
NAME = "0123456789abcdef"
DATA = b"def f(x):\n    return x + 1\n\x00\xff"
INPUTS = st.one_of(
    st.binary(max_size=60),
    st.integers(1, 100).map(bytes),  # NULs
    st.text(max_size=30).map(str.encode),
    st.integers(0, 2**32).map(lambda seed: np.random.default_rng(seed).bytes(60)),
)


@cache
def single() -> LanguageModel:
    return small(layers=1, dtype=torch.float32)


def returns(model: LanguageModel, data: bytes, **arguments) -> bytes:
    """Compresses, checks that decompression gives the same back, and returns the message."""
    blob = compress(model, CODEC, data, NAME, **arguments)
    assert decompress(model, CODEC, blob, NAME) == data
    return unpack(blob)[1]


def scored_bytes(model: LanguageModel, data: bytes) -> float:
    totals = Totals()
    for piece in score(model, CODEC, data):
        totals.add(piece)
    return totals.bits / 8


def ideal_bytes(model: LanguageModel, data: bytes, lanes: int) -> float:
    """The information of all lanes' bytes by full forward passes, when it is known that none is a special id."""
    bits = 0.0
    for lane in np.array_split(np.frombuffer(data, np.uint8).astype(np.int64), lanes):
        with torch.no_grad():
            logits_TV = model(torch.tensor([[CODEC.bos, *lane[:-1].tolist()]])).logits[0, :, :256]
        bits -= logits_TV.log_softmax(-1)[range(len(lane)), lane].sum().item() / math.log(2)
    return bits / 8


@settings(max_examples=20)
@given(data=INPUTS, lanes=st.integers(1, 8))
def test_any_bytes_return(data, lanes):
    returns(single(), data, lanes=lanes)


@pytest.mark.slow
@settings(max_examples=200)
@given(data=INPUTS, lanes=st.integers(1, 8))
def test_any_bytes_return_at_length(data, lanes):
    returns(single(), data, lanes=lanes)


@pytest.mark.parametrize("data", [b"", b"\x00", b"x", bytes(300), bytes(range(256))])
def test_edges_return(data):
    returns(single(), data, lanes=4)


@pytest.mark.parametrize("family", SHAPES)
@pytest.mark.parametrize("lanes", [1, 4])
def test_every_family_returns(family, lanes):
    returns(small(family, dtype=torch.float32), DATA * 2, lanes=lanes)


def real_files(count: int) -> list[bytes]:
    """The shortest files of the standard library that have at least 4 kB."""
    sizes = sorted((file.stat().st_size, file) for file in standard_library())
    return [file.read_bytes() for size, file in sizes if size >= 4096][:count]


def check_size(data: bytes, lanes: int) -> None:
    size, ideal = len(returns(single(), data, lanes=lanes)), ideal_bytes(single(), data, lanes)
    assert ideal - 1 < size < 1.0001 * ideal + 2
    assert size < 1.01 * scored_bytes(single(), data)


def test_a_real_file_takes_its_scored_bits():
    check_size(real_files(1)[0], lanes=32)


@pytest.mark.slow
@pytest.mark.parametrize("lanes", [1, 16])
def test_five_real_files_take_their_scored_bits(lanes):
    for data in real_files(5):
        check_size(data, lanes)


@pytest.mark.parametrize("sharp", [300.0, 3000.0])
def test_a_model_that_is_sure_pays_nothing_for_the_unlikely(sharp):
    model = small(layers=1, sharp=sharp)
    likeliest = Sampling(temperature=0.0)
    steps = generate(model, CODEC, [b""], max_tokens=120, sampling=likeliest, stop_at_eos=False)
    data = b"".join(step.data for step in steps)
    expected = scored_bytes(model, data)
    assert expected < 20
    assert len(returns(model, data)) <= 1.01 * expected + 1


def test_tokens_of_several_bytes_return(tokenizer_codec):
    model = small(vocabulary=tokenizer_codec.vocabulary)
    data, done = "naïve café, the same words\n".encode() * 4 + b"\xff\x00", []
    blob = compress(model, tokenizer_codec, data, NAME, lanes=3, progress=done.append)
    assert unpack(blob)[0].tokens < len(data) / 2
    assert decompress(model, tokenizer_codec, blob, NAME) == data
    assert done[-1] == len(data)


def test_both_directions_are_the_same_calls(monkeypatch):
    model = small()
    calls = watch(model, monkeypatch)
    blob = compress(model, CODEC, DATA, NAME, lanes=4)
    encoding = calls.copy()
    decompress(model, CODEC, blob, NAME)
    assert calls == encoding * 2
    assert encoding == [(4, 1, False)] * 8  # 29 bytes: the last step codes one lane


def test_lanes_are_stretches_that_know_only_themselves():
    model, data = small("transformer"), DATA * 4
    size, ideal, alone = len(returns(model, data, lanes=40)), ideal_bytes(model, data, 40), ideal_bytes(model, data, 1)
    assert ideal < size < ideal + 1.2
    assert abs(ideal - alone) > 2


def test_progress_counts_bytes_to_the_end():
    done: list[int] = []
    blob = compress(single(), CODEC, DATA, NAME, lanes=4, progress=done.append)
    assert done == [4, 8, 12, 16, 20, 24, 28, 29]
    done.clear()
    decompress(single(), CODEC, blob, NAME, progress=done.append)
    assert done == [4, 8, 12, 16, 20, 24, 28, 29]


def test_a_model_with_a_limit_begins_anew_at_it():
    model = small("transformer", context_limit=10)
    assert unpack(compress(model, CODEC, DATA, NAME))[0].context == 10
    returns(model, DATA)
    returns(model, DATA, context=7)


def test_default_lanes_grow_with_the_data():
    assert [default_lanes(n) for n in (0, 1, 32_767, 32_768, 10**5, 10**9)] == [1, 1, 1, 2, 6, 16]
    assert unpack(compress(single(), CODEC, b"abc", NAME, lanes=8))[0].lanes == 3


def test_decoding_runs_on_as_many_threads_as_encoding(monkeypatch):
    model, seen = small(layers=1), []
    forward = model.forward
    monkeypatch.setattr(model, "forward", lambda *args: (seen.append(torch.get_num_threads()), forward(*args))[1])
    torch.set_num_threads(2)
    try:
        blob = compress(model, CODEC, b"abc", NAME)
    finally:
        torch.set_num_threads(1)
    assert decompress(model, CODEC, blob, NAME) == b"abc"
    assert seen == [2] * 6
    assert torch.get_num_threads() == 1


def test_another_models_file_is_refused_before_any_work(monkeypatch):
    model = small(layers=1)
    blob = compress(model, CODEC, DATA, NAME)
    calls = watch(model, monkeypatch)
    with pytest.raises(CompressionError, match=rf"'{NAME[::-1]}'.*'{NAME}'"):
        decompress(model, CODEC, blob, NAME[::-1])
    with pytest.raises(CompressionError, match=r"float64.*float32"):
        decompress(model, CODEC, compress(single(), CODEC, DATA, NAME), NAME)
    assert calls == []


def test_a_model_that_predicts_otherwise_is_found_out_in_the_end():
    blob = compress(single(), CODEC, DATA, NAME)
    with pytest.raises(CompressionError, match=r"message|digest of the result.*torch"):
        decompress(small(layers=1, sharp=59, dtype=torch.float32), CODEC, blob, NAME)


def test_every_flipped_bit_and_every_cut_is_found_before_any_work(monkeypatch):
    model = small(layers=1)
    blob = compress(model, CODEC, DATA, NAME)
    calls = watch(model, monkeypatch)
    flipped = [blob[:i] + bytes([blob[i] ^ 1 << i % 8]) + blob[i + 1 :] for i in range(len(blob))]
    for damaged in [*flipped, *(blob[:i] for i in range(len(blob))), blob + b"\x00"]:
        with pytest.raises(CompressionError):
            decompress(model, CODEC, damaged, NAME)
    assert calls == []


@given(data=st.binary(max_size=200))
def test_files_of_other_kinds_are_refused(data):
    for blob in (data, b"EVZ\x01" + data):
        with pytest.raises(CompressionError, match="compressed file"):
            unpack(blob)


@pytest.mark.parametrize(
    "lie",
    [
        {"tokens": 30},
        {"tokens": 0},
        {"lanes": 0},
        {"lanes": 30},
        {"lanes": 5000, "tokens": 10**6, "size": 10**6},
        {"threads": 0},
        {"threads": 60_000},
        {"size": 28, "tokens": 28},
        {"tokens": 28},
        {"size": 2**60, "tokens": 2**60},  # must not be allocated, nor waited for
        {"digest": bytes(16)},
        {"context": 5},
    ],
    ids=str,
)
def test_a_header_that_lies_is_found_out(lie):
    header, message = unpack(compress(single(), CODEC, DATA, NAME))
    with pytest.raises(CompressionError):
        decompress(single(), CODEC, pack(dataclasses.replace(header, **lie), message), NAME)


@given(
    size=st.integers(1, 2**63 - 1),
    context=st.integers(0, 2**63 - 1),
    lanes=st.integers(1, MOST_LANES),
    threads=st.integers(1, MOST_THREADS),
    message=st.binary(max_size=5),
)
def test_headers_return(size, context, lanes, threads, message):
    header = Header(
        digest=bytes(range(16)),
        fingerprint=NAME,
        numerics="cuda torch.bfloat16",
        torch=(3, 14),
        size=size,
        tokens=max(1, size // 3),
        lanes=min(lanes, max(1, size // 3)),
        context=context,
        threads=threads,
    )
    assert unpack(pack(header, message)) == (header, message)


def test_a_header_is_short():
    assert len(compress(single(), CODEC, b"", NAME)) <= 45


@pytest.mark.parametrize("content", [b"", bytes(26), bytes(24) + b"\xff" + bytes(7), bytes(27) + b"\xff" * 50])
def test_a_header_that_makes_no_sense_is_refused(content):
    content = b"EVZ\x01" + content
    with pytest.raises(CompressionError, match="compressed file"):
        unpack(content + zlib.crc32(content).to_bytes(4, "big"))


@pytest.mark.parametrize(
    ("field", "arguments"),
    [("lanes", {"lanes": 0}), ("lanes", {"lanes": 10**6}), ("context", {"context": 0})],
)
def test_values_out_of_range_are_named(field, arguments):
    with pytest.raises(ConfigError) as caught:
        compress(single(), CODEC, DATA, NAME, **arguments)
    assert caught.value.field == field


@pytest.mark.parametrize("fingerprint", ["", "0123", "the model of my own"])
def test_a_fingerprint_is_hexadecimal(fingerprint):
    with pytest.raises(ConfigError, match="fingerprint"):
        compress(single(), CODEC, DATA, fingerprint)
    with pytest.raises(ConfigError, match="fingerprint"):
        decompress(single(), CODEC, compress(single(), CODEC, DATA, NAME), fingerprint)


def test_a_codec_that_loses_bytes_is_refused():
    class Lossy(ByteCodec):
        def encode(self, data: bytes):
            return super().encode(data.replace(b"\x00", b""))

    with pytest.raises(CompressionError, match="Lossy"):
        compress(single(), Lossy(), DATA, NAME)


def test_a_codec_of_another_model_is_refused(tokenizer_codec):
    with pytest.raises(ConfigError, match=r"codec\.vocabulary"):
        compress(single(), tokenizer_codec, DATA, NAME)


def test_fingerprints_tell_models_apart(tokenizer_codec):
    one, others = small(), [small(sharp=1), small(dtype=torch.float32), small(window=7), small()]
    with torch.no_grad():
        others[-1].head.weight[0, 0] += 1e-12
    names = {model_fingerprint(model, CODEC) for model in [one, *others]} | {model_fingerprint(one, tokenizer_codec)}
    assert len(names) == 6
    assert {len(name) for name in names} == {64}
    assert model_fingerprint(small(), CODEC) in names
