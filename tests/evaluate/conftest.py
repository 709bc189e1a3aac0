"""What the tests of `everlong.evaluate` share: stores made of documents given as bytes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from everlong.data import ByteCodec, Codec, StoreWriter, TokenStore

Stored = Callable[..., TokenStore]


@pytest.fixture
def stored(tmp_path) -> Stored:
    """Makes a store of documents."""

    def make(documents: Sequence[bytes], codec: Codec | None = None) -> TokenStore:
        codec, folder = codec or ByteCodec(), Path(tmp_path, f"store{len(list(tmp_path.iterdir()))}")
        with StoreWriter(folder, codec) as writer:
            for i, document in enumerate(documents):
                writer.add(f"{i}.py", document)
        return TokenStore.open(folder, codec)

    return make
