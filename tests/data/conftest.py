"""What the tests of `everlong.data` share: small corpora, and a small tokenizer that is made here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from everlong.data import ByteCodec, Codec, Corpus, TokenizerCodec, open_corpus
from tests.data.stored import FILES

TEXT = ["def f(x):\n    return x + 1\n", "naïve café, “quoted” — Ελλάδα\n", "the same words, the same words\n"]


@pytest.fixture(scope="session")
def tokenizer() -> Callable[[], Tokenizer]:
    """Makes a byte-level BPE tokenizer of about 300 tokens."""

    def make() -> Tokenizer:
        made = Tokenizer(models.BPE())
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        special = ["<|endoftext|>"]
        trainer = trainers.BpeTrainer(
            vocab_size=320, initial_alphabet=alphabet, special_tokens=special, show_progress=False
        )
        made.train_from_iterator(TEXT * 20, trainer)
        return made

    return make


@pytest.fixture(scope="session", params=["bytes", "tokenizer"])
def codec(request, tokenizer) -> Codec:
    return ByteCodec() if request.param == "bytes" else TokenizerCodec("made here", text=tokenizer().to_str())


@pytest.fixture(scope="session")
def fill() -> Callable[[Path, dict[str, bytes]], Path]:
    """Writes files, by their path within a folder."""

    def write(folder: Path, files: dict[str, bytes]) -> Path:
        for name, data in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
        return folder

    return write


@pytest.fixture
def folder(tmp_path: Path, fill) -> Path:
    return fill(tmp_path / "files", FILES)


@pytest.fixture
def open_it(folder: Path, tmp_path: Path) -> Callable[..., Corpus]:
    """Opens the corpus of `folder`, a third of it held out."""

    def open_with(sources=folder, **options) -> Corpus:
        settings = {"codec": ByteCodec(), "validation_fraction": 0.3, "cache": tmp_path / "cache"}
        return open_corpus(sources, **settings | options)

    return open_with
