"""What tests of corpora and of their cache share: some files, and what is kept of them."""

from __future__ import annotations

from pathlib import Path

from everlong.data import TokenStore, documents

FILES = {f"{i}.bin": bytes([i]) * i + b"\0\xff \n" for i in range(1, 40)}


def contents(store: TokenStore) -> dict[str, bytes]:
    return {Path(name).name: store.codec.decode(ids_T) for name, ids_T, _ in documents(store)}


def cached(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "cache/corpora").iterdir())
