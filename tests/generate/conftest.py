"""What the tests of `everlong.generate` share: a tokenizer that is made here."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from everlong.data import TokenizerCodec


@pytest.fixture(scope="session")
def tokenizer_codec() -> TokenizerCodec:
    """A byte-level BPE tokenizer of 300 tokens, some of them several bytes long."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=300, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    made.train_from_iterator(["def f(x):\n    return x + 1\n", "naïve café, the same words\n"] * 20, trainer)
    return TokenizerCodec("made here", text=made.to_str())
