"""Where each document goes: to training, to validation, or nowhere.

A document is held out if its SHA-256, read as a fraction, lies below `fraction`. So copies of a document
never straddle the split, and adding files moves no other.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from everlong.core.errors import DataError
from everlong.data.store import StoreWriter, content_hash


@dataclass
class Split:
    """Fills two stores. Documents named for validation come first, so that their copies are known."""

    train: StoreWriter
    validation: StoreWriter
    fraction: float
    """The share of documents to hold out; 0 where validation documents are named."""
    empty: int = 0
    """Documents left out because they hold no bytes."""
    withheld: int = 0
    """Documents left out of training because the same bytes were named for validation."""
    _named: set[str] = field(default_factory=set)

    def add(self, name: str, data: bytes, *, named: bool, advance: Callable[[float], None]) -> None:
        """Puts a document where it belongs; `advance` is told the share of it that was just done."""
        digest = content_hash(data)
        if named:
            self._named.add(digest)
        if not data:
            self.empty += 1
        elif named or share(digest) < self.fraction:
            return self.validation.add(name, data, advance)
        elif digest in self._named:
            self.withheld += 1
        else:
            return self.train.add(name, data, advance)
        return advance(1.0)

    def check(self) -> None:
        """Makes sure that both stores hold something.

        Raises:
            DataError: one of them does not.
        """
        if not (self.train.hashes or self.validation.hashes):
            raise DataError("data", f"{self.empty} empty files", "hold no bytes: name other files with --data")
        if self._named:
            self._check_named()
        else:
            self._check_fraction()

    def _check_named(self) -> None:
        if not self.validation.hashes:
            raise DataError("validation", "empty files", "hold no bytes: name others with --validation")
        if not self.train.hashes:
            remedy = "are all named for validation too: name other files for training with --data"
            raise DataError("data", f"{self.withheld} files", remedy)

    def _check_fraction(self) -> None:
        shares = sorted({share(digest) for digest in self.train.hashes + self.validation.hashes})
        if len(shares) == 1:
            remedy = "cannot be split by whole files: give others too, or name some with --validation"
            raise DataError("data", "files that are all alike", remedy)
        if not self.validation.hashes:
            least = (math.floor(shares[0] * 1e4) + 1) / 1e4
            remedy = f"holds out none of {len(shares)} documents: set {least} or more, or use --validation"
            raise DataError("validation_fraction", self.fraction, remedy)
        if not self.train.hashes:
            most = math.floor(shares[-1] * 1e4) / 1e4
            remedy = f"holds out all {len(shares)} documents: set {most} or less, or give more files"
            raise DataError("validation_fraction", self.fraction, remedy)


def share(digest: str) -> float:
    """A SHA-256 as a fraction in [0, 1), exact in a float."""
    return int(digest[:13], 16) / 16**13
