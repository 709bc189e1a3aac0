"""Tokenizer compression: tokens that spell the same, but for case, accents and spaces, get one id (Engram, arXiv
2601.07372, sec. 2.2).

Ids are numbered by the first token that has them, as in the authors' reference code (deepseek-ai/Engram). A token that
is no whole character stands for itself. The result is data: it is part of a model's configuration, and so of every
checkpoint, and needs neither the tokenizer nor its file again.

Legend: V token ids.
"""

from __future__ import annotations

import base64
import zlib
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from everlong.core.config import Config, check
from everlong.core.errors import ConfigError, DataError

SPACE = "\ue000"  # stands for a single space while the ends are stripped


class Compression(Config):
    """Which compressed id every token id has."""

    vocabulary: int
    """V, token ids 0 .. V - 1."""
    classes: int
    """How many compressed ids there are."""
    packed: str
    """The compressed ids: steps from one to the next as 32-bit integers, deflated, in base 85. See `pack`."""

    def __post_init__(self) -> None:
        ids_V = self.unpack()
        fitting = len(ids_V) == self.vocabulary and set(ids_V.tolist()) == set(range(self.classes))
        remedy = f"does not hold {self.vocabulary} ids of {self.classes} classes: it is damaged; make it from the file"
        check(fitting, "compression.packed", f"{len(self.packed)} letters", remedy)

    @classmethod
    def pack(cls, ids: list[int]) -> Compression:
        """A compression from the compressed id of every token."""
        steps_V = np.diff(np.asarray(ids, np.int32), prepend=np.int32(0))
        packed = base64.b85encode(zlib.compress(steps_V.astype("<i4").tobytes(), 9)).decode()
        return cls(vocabulary=len(ids), classes=len(set(ids)), packed=packed)

    def unpack(self) -> Int64[Tensor, " v"]:
        """The compressed id of every token.

        Raises:
            ConfigError: they cannot be read.
        """
        try:
            steps_V = np.frombuffer(zlib.decompress(base64.b85decode(self.packed)), "<i4")
        except (ValueError, zlib.error) as error:
            shown = f"{len(self.packed)} letters"
            raise ConfigError("compression.packed", shown, f"is damaged ({error}): make it from the file") from error
        return torch.tensor(steps_V.cumsum(dtype=np.int64).tolist(), dtype=torch.int64)

    def __str__(self) -> str:
        return f"{self.vocabulary} to {self.classes}"

    __repr__ = __str__  # the packed ids are no reading matter


def compress_tokenizer(path: str | Path, *, specials: int = 0) -> Compression:
    """The compression of a `tokenizer.json` (extra `hf`).

    Args:
        path: the file.
        specials: ids behind those of the tokenizer that stand for themselves, such as BOS, EOS and PAD of a codec.

    Raises:
        DataError: the extra is not installed, or the file is no tokenizer.
    """
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise DataError("tokenizer", str(path), "needs the extra `hf`: pip install everlong[hf]") from error
    try:
        tokenizer = Tokenizer.from_str(Path(path).expanduser().read_text(encoding="utf-8"))
    except Exception as error:  # tokenizers raises bare Exception
        raise DataError("tokenizer", str(path), f"is no tokenizer.json ({error})") from error
    normalise, numbers, ids = _normaliser(), dict[str, int](), []
    for token in range(tokenizer.get_vocab_size(with_added_tokens=True)):
        text = tokenizer.decode([token], skip_special_tokens=False)
        partial = "\ufffd" in text  # bytes that are no whole character: never merged by what they look like
        key = str(tokenizer.id_to_token(token)) if partial else normalise(text) or text
        ids.append(numbers.setdefault(key, len(numbers)))
    ids += range(len(numbers), len(numbers) + specials)
    return Compression.pack(ids)


def check_tokenizer(compression: Compression, path: str | Path, *, specials: int = 0) -> None:
    """Makes sure that a model's compression is that of a tokenizer.

    Raises:
        DataError: it is not, or the tokenizer cannot be read.
    """
    own = compress_tokenizer(path, specials=specials)
    if own != compression:
        raise DataError("tokenizer", str(path), f"compresses {own}, the model {compression}: use the model's tokenizer")


def _normaliser():
    """From a text to what it is compared by."""
    from tokenizers import Regex
    from tokenizers.normalizers import NFD, NFKC, Lowercase, Replace, Sequence, Strip, StripAccents

    steps = [NFKC(), NFD(), StripAccents(), Lowercase(), Replace(Regex(r"[ \t\r\n]+"), " ")]
    steps += [Replace(Regex(r"^ $"), SPACE), Strip(), Replace(SPACE, " ")]
    return Sequence(steps).normalize_str
