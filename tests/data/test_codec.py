"""Codecs lose nothing, whatever the bytes."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from everlong.core.errors import DataError
from everlong.data import ByteCodec, Codec, codec_from_config
from everlong.data import codec as codec_module

ALL_BYTES = bytes(range(256))
ANY_BYTES = st.one_of(
    st.binary(max_size=200),
    st.text(max_size=100).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.lists(st.sampled_from([b"the same ", b"\xff", b"\n", "é".encode(), b"\xc3", b"\0", b"\r\n"])).map(b"".join),
)


@given(data=ANY_BYTES)
@example(data=b"")
@example(data=b"\0\0a\0")
@example(data=ALL_BYTES)
@example(data=b"\xed\xa0\x80 a surrogate, spelled")
@example(data=b"<|endoftext|>")
@settings(max_examples=150, deadline=None)
def test_decoding_gives_back_any_bytes(codec: Codec, data: bytes):
    ids_T = codec.encode(data)
    assert codec.decode(ids_T) == data
    assert codec.decode(ids_T.tolist()) == data
    assert not np.isin(ids_T, [codec.bos, codec.eos, codec.pad]).any()
    assert ((ids_T >= 0) & (ids_T < codec.vocabulary)).all()
    assert codec.byte_lengths()[ids_T].sum() == len(data)


def test_special_ids_are_distinct_and_stand_for_nothing(codec: Codec):
    special = [codec.bos, codec.eos, codec.pad]
    assert len(set(special)) == 3
    assert codec.decode([codec.bos, *codec.encode(b"a\0b").tolist(), codec.eos, codec.pad]) == b"a\0b"
    assert codec.byte_lengths().shape == (codec.vocabulary,)
    assert codec.byte_lengths()[special].tolist() == [0, 0, 0]


def test_a_byte_is_its_own_id():
    codec = ByteCodec()
    assert codec.encode(ALL_BYTES).tolist() == list(range(256))
    assert (codec.bos, codec.eos, codec.pad, codec.vocabulary) == (256, 257, 258, 259)


@pytest.mark.parametrize("wrong", [-1, -100, 10**6])
def test_ids_outside_the_vocabulary_are_refused(codec: Codec, wrong: int):
    with pytest.raises(DataError, match=f"ids = {wrong}: must be from 0 to {codec.vocabulary - 1}"):
        codec.decode([0, wrong])


def test_a_config_is_json_and_makes_the_same_codec(codec: Codec):
    again = codec_from_config(json.loads(json.dumps(codec.to_config())))
    assert again.fingerprint() == codec.fingerprint()
    assert again.vocabulary == codec.vocabulary
    assert again.encode(b"the same words").tolist() == codec.encode(b"the same words").tolist()


@pytest.mark.parametrize("config", [{}, {"kind": "words"}, {"kind": "tokenizer"}])
def test_an_unknown_config_is_refused(config: dict):
    with pytest.raises(DataError, match=r"codec\.kind = "):
        codec_from_config(config)


@given(data=ANY_BYTES, size=st.integers(1, 20))
@settings(max_examples=100, deadline=None)
def test_a_document_may_be_encoded_piecewise(codec: Codec, data: bytes, size: int):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(codec_module, "BLOCK", size)
        pieces = list(codec_module.blocks(data))
        whole = codec.encode(data).tolist()
        assert [i for piece in pieces for i in codec.encode(piece).tolist()] == whole
    assert b"".join(pieces) == data
    assert all(0 < len(piece) <= size for piece in pieces)
    assert all(b"\n" not in piece or piece.endswith(b"\n") for piece in pieces[:-1])
    assert codec.decode(whole) == data
