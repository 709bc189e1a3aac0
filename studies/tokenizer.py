"""The tokenizer of `engram_subwords.py`: byte-level BPE of 4,096 tokens, learnt from the sources that studies train on.

python -m studies.tokenizer     # writes studies/tokenizer.json
"""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from everlong.data import ByteCodec
from everlong.train import DataConfig

KEPT = Path(__file__).with_name("tokenizer.json")
SIZE = 4096
TEXTS = 500
"""Documents that it is learnt from."""


def main() -> None:
    """Learns it and keeps it."""
    store = DataConfig(validation_fraction=0.1).open(ByteCodec()).train
    texts = (ByteCodec().decode(store.document(i)).decode("utf-8", "replace") for i in range(TEXTS))
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=SIZE, initial_alphabet=alphabet))
    made.save(str(KEPT), pretty=False)


if __name__ == "__main__":
    main()
