"""Studies whose models read the tokens of a tokenizer: true bytes are told, and vocabularies fit."""

from __future__ import annotations

from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from everlong.core.errors import DataError
from everlong.data import TokenizerCodec
from everlong.lab import TrainingBytes, make_plan
from everlong.lab.cell import read_status
from everlong.lab.plan import CELLS
from everlong.lab.report import write_report
from tests.lab.conftest import InProcess


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory) -> Path:
    """Two letters are one token where they can be."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=272, initial_alphabet=alphabet, show_progress=False)
    made.train_from_iterator([one + other for one in "abcd" for other in "abcd"], trainer)
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    made.save(str(path))
    return path


def test_models_read_tokens_and_are_measured_by_the_byte(make, tokenizer, tmp_path):
    study = make(tokenizer=str(tokenizer), learning_rates=(0.01,), budget=TrainingBytes(bytes=4 * 64))
    tokens = make_plan(study, threads=1)
    InProcess(tokens, tmp_path)
    vocabulary = TokenizerCodec(tokenizer).vocabulary
    for job in tokens.runs({0: 0.01, 1: 0.01}):
        assert job.cell.model.vocabulary == vocabulary
        found = read_status(tmp_path / CELLS / job.name)["result"]
        assert all(100 < size <= 200 for size in found["bits_per_byte"]["bytes"])  # bytes of a hundred tokens
        assert found["bytes_seen"] > 1.5 * found["steps"] * study.bytes_per_step
    write_report(tmp_path)
    assert f"All read the tokens of {tokenizer}" in (tmp_path / "report.md").read_text()


def test_a_missing_tokenizer_is_found_before_anything_is_built(make, tmp_path):
    with pytest.raises(DataError, match=r"name a tokenizer\.json"):
        make_plan(make(tokenizer=str(tmp_path / "none.json")), threads=1)
