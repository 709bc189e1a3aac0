"""A tokenizer's own doings cost no byte: they are switched off, spelled around, or refused."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers

from everlong.core.errors import DataError
from everlong.data import TokenizerCodec, codec_from_config


def codec_of(tokenizer: Tokenizer) -> TokenizerCodec:
    return TokenizerCodec("made here", text=tokenizer.to_str())


def test_tokens_are_the_tokenizers_own(tokenizer):
    text = "the same words, “quoted”\n"
    ids = codec_of(tokenizer()).encode(text.encode()).tolist()
    assert ids == tokenizer().encode(text).ids
    assert len(ids) < len(text) / 2


def test_special_ids_follow_the_tokenizers_vocabulary(tokenizer):
    codec, size = codec_of(tokenizer()), tokenizer().get_vocab_size()
    assert (codec.bos, codec.eos, codec.pad, codec.vocabulary) == (size, size + 1, size + 2, size + 3)


def test_the_tokenizers_special_tokens_are_text_in_a_document(tokenizer):
    made = tokenizer()
    codec, special = codec_of(made), made.token_to_id("<|endoftext|>")
    ids = codec.encode(b"the same<|endoftext|>").tolist()
    assert special not in ids
    assert codec.decode(ids) == b"the same<|endoftext|>"
    assert ids[:2] == made.encode("the same").ids
    assert codec.decode([special]) == b""


def test_added_tokens_that_are_not_special_keep_their_text(tokenizer):
    made = tokenizer()
    made.add_tokens([AddedToken("é<tool>", normalized=False), AddedToken("<strip>", lstrip=True, rstrip=True)])
    codec, data = codec_of(made), "a  é<tool>b  <strip>  c".encode()
    ids = codec.encode(data).tolist()
    assert codec.decode(ids) == data
    plain = codec.encode("a  é<tool>b".encode()).tolist()
    assert made.token_to_id("é<tool>") in plain


def test_only_lines_that_a_normaliser_changes_are_spelled(tokenizer):
    made = tokenizer()
    made.normalizer = normalizers.NFC()
    codec = codec_of(made)
    kept, changed = b"the same words\n", "cafe\u0301\n".encode()  # an accent on its own, which NFC would join
    ids = codec.encode(kept + changed + kept).tolist()
    assert codec.decode(ids) == kept + changed + kept
    own = tokenizer().encode(kept.decode()).ids
    assert ids[: len(own)] == own == ids[-len(own) :]
    assert len(ids) == 2 * len(own) + len(changed)


def test_truncation_padding_and_dropout_are_switched_off(tokenizer):
    made = tokenizer()
    made.enable_truncation(3)
    made.enable_padding(length=50)
    made.model.dropout = 0.9
    data = b"the same words, the same words\n"
    assert codec_of(made).encode(data).tolist() == codec_of(tokenizer()).encode(data).tolist()


def test_a_vocabulary_may_have_gaps(tokenizer):
    spec = json.loads(tokenizer().to_str())
    last = max(spec["model"]["vocab"], key=spec["model"]["vocab"].get)
    spec["model"]["vocab"][last] += 7
    codec = TokenizerCodec("made here", text=json.dumps(spec))
    assert codec.bos == spec["model"]["vocab"][last] + 1
    assert codec.byte_lengths()[codec.bos - 3] == 0
    assert codec.decode(codec.encode(b"the same")) == b"the same"


def test_the_config_needs_no_file(tokenizer, tmp_path: Path):
    path = tmp_path / "tokenizer.json"
    path.write_text(tokenizer().to_str(), encoding="utf-8")
    config = TokenizerCodec(path).to_config()
    path.unlink()
    assert codec_from_config(config).decode(codec_from_config(config).encode(b"\xff the")) == b"\xff the"


def test_a_missing_extra_is_named(tokenizer, monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(DataError, match=r"pip install everlong\[hf\]"):
        TokenizerCodec("a.json", text="{}")


@pytest.mark.parametrize("content", [b"", b"not json", b"[]", b"{}", b'{"model": {"type": "BPE"}}', b"\xff\xfe"])
def test_what_is_no_tokenizer_is_refused(content: bytes, tmp_path: Path):
    path = tmp_path / "tokenizer.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"tokenizer = '.*tokenizer\.json'"):
        TokenizerCodec(path)


def test_an_absent_file_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match=r"cannot be read .* name a tokenizer\.json"):
        TokenizerCodec(tmp_path / "absent.json")


def test_a_tokenizer_without_bytes_is_refused():
    words = Tokenizer(models.WordLevel({"a": 0, "[UNK]": 1}, unk_token="[UNK]"))
    with pytest.raises(DataError, match="has no token for 255 of the 256 bytes: use a byte-level tokenizer"):
        codec_of(words)


def test_a_tokenizer_that_changes_plain_text_is_refused(tokenizer):
    prefixed, lowered = tokenizer(), tokenizer()
    prefixed.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    lowered.normalizer = normalizers.Prepend("_")
    for made in (prefixed, lowered):
        with pytest.raises(DataError, match="remove its normalizer, and set add_prefix_space to false"):
            codec_of(made)
