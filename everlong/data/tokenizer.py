"""Any byte-level Hugging Face `tokenizer.json` as a lossless codec (extra `hf`).

A byte-level vocabulary (Radford et al. 2019, GPT-2) spells tokens with 256 printable letters, one for each
byte. So every byte has a token of its own, and whatever the tokenizer would change (bytes that are not UTF-8,
text that a normaliser rewrites) is spelled out byte by byte. The result decodes to exactly the same bytes.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int64

from everlong.core.errors import DataError
from everlong.data.codec import ByteCodec, Codec, Ids, blocks, within_vocabulary

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_NOT_UTF8 = re.compile("([\udc80-\udcff]+)")  # how Python's "surrogateescape" carries undecodable bytes
_PROBE = "def probe(x):\n    return x + 1  # plain ASCII\n"


class TokenizerCodec(Codec):
    """The tokenizer's own ids, then BOS, EOS and PAD.

    Args:
        path: the `tokenizer.json`.
        text: its content, if that is at hand already; `path` then only names it in errors.

    Raises:
        DataError: the extra is not installed, the file is no tokenizer, or no byte-level one.
    """

    def __init__(self, path: str | Path, *, text: str | None = None) -> None:
        self._text = _read(path) if text is None else text
        self._tokenizer = _tokenizer(path, self._text)
        self._pieces = _pieces(self._tokenizer)
        self._byte_ids = _byte_ids(path, self._tokenizer)
        self.bos, self.eos, self.pad = (len(self._pieces) + i for i in range(3))
        self._pieces += [b"", b"", b""]
        self.vocabulary = len(self._pieces)
        if self._plain(_PROBE) is None:
            remedy = "changes plain ASCII text: remove its normalizer, and set add_prefix_space to false"
            raise DataError("tokenizer", str(path), remedy)

    def encode(self, data: bytes) -> Int64[np.ndarray, " t"]:
        ids = [i for block in blocks(data) for i in self._block(block)]
        return np.asarray(ids, dtype=np.int64)

    def decode(self, ids: Ids) -> bytes:
        return b"".join(self._pieces[i] for i in within_vocabulary(ids, self.vocabulary).tolist())

    def byte_lengths(self) -> Int64[np.ndarray, " v"]:
        return np.asarray([len(piece) for piece in self._pieces], dtype=np.int64)

    def to_config(self) -> dict[str, Any]:
        return {"kind": "tokenizer", "tokenizer": self._text}

    def _block(self, block: bytes) -> list[int]:
        ids: list[int] = []
        for i, stretch in enumerate(_NOT_UTF8.split(block.decode("utf-8", "surrogateescape"))):
            spell = self._spelled if i % 2 else self._lossless
            ids += spell(stretch)
        return ids

    def _lossless(self, text: str) -> list[int]:
        """Ids of `text`: the tokenizer's own, save in lines that it would change."""
        ids = self._plain(text)
        if ids is not None:
            return ids
        lines = text.splitlines(keepends=True)
        if len(lines) == 1:
            return self._spelled(text)
        middle = len(lines) // 2
        return self._lossless("".join(lines[:middle])) + self._lossless("".join(lines[middle:]))

    def _plain(self, text: str) -> list[int] | None:
        """The tokenizer's ids of `text`, or `None` if they stand for anything else."""
        ids = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids if b"".join(self._pieces[i] for i in ids) == text.encode() else None

    def _spelled(self, text: str) -> list[int]:
        return [self._byte_ids[byte] for byte in text.encode("utf-8", "surrogateescape")]


def codec_of(tokenizer: str | Path | None) -> Codec:
    """The tokens of a tokenizer.json, or bytes.

    Raises:
        DataError: the tokenizer cannot be used.
    """
    return ByteCodec() if tokenizer is None else TokenizerCodec(tokenizer)


def _letters() -> str:
    """GPT-2's 256 letters: letter i spells byte i. Bytes that Latin-1 does not show are spelled from U+0100."""
    visible = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    hidden = (chr(code) for code in range(0x100, 0x200))
    return "".join(chr(byte) if byte in visible else next(hidden) for byte in range(256))


_BYTE_OF = {letter: byte for byte, letter in enumerate(_letters())}


def _read(path: str | Path) -> str:
    try:
        return Path(path).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError("tokenizer", str(path), f"cannot be read ({error}): name a tokenizer.json") from error


def _tokenizer(path: str | Path, text: str) -> Tokenizer:
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise DataError("tokenizer", str(path), "needs the extra `hf`: pip install everlong[hf]") from error
    try:
        spec = json.loads(text)
        spec |= {"truncation": None, "padding": None}  # they would cut or fill documents
        if "dropout" in spec["model"]:
            spec["model"]["dropout"] = None  # it would make encoding random
        tokenizer = Tokenizer.from_str(json.dumps(spec))
    except Exception as error:  # tokenizers raises bare Exception
        raise DataError("tokenizer", str(path), f"is no tokenizer.json ({error})") from error
    tokenizer.encode_special_tokens = True  # "<|endoftext|>" in a document is text like any other
    return tokenizer


def _pieces(tokenizer: Tokenizer) -> list[bytes]:
    """The bytes that each of the tokenizer's ids stands for; none for its special tokens."""
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    pieces = [b""] * (max(vocabulary.values(), default=-1) + 1)
    for token, i in vocabulary.items():
        spelled = all(letter in _BYTE_OF for letter in token)
        pieces[i] = bytes(_BYTE_OF[letter] for letter in token) if spelled else token.encode()
    for i, added in tokenizer.get_added_tokens_decoder().items():  # written as they are, not spelled
        pieces[i] = b"" if added.special else added.content.encode()
    return pieces


def _byte_ids(path: str | Path, tokenizer: Tokenizer) -> list[int]:
    """The id that spells each byte."""
    vocabulary = tokenizer.get_vocab(with_added_tokens=False)
    missing = [byte for letter, byte in _BYTE_OF.items() if letter not in vocabulary]
    if missing:
        remedy = f"has no token for {len(missing)} of the 256 bytes: use a byte-level tokenizer"
        raise DataError("tokenizer", str(path), remedy)
    return [vocabulary[letter] for letter in _BYTE_OF]
