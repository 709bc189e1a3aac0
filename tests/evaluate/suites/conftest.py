"""What the tests of suites share: both kinds of codec."""

from __future__ import annotations

import pytest

from everlong.data import ByteCodec, Codec
from tests.generate.conftest import tokenizer_codec  # noqa: F401  # a fixture


@pytest.fixture(params=["bytes", "tokens"])
def codec(request) -> Codec:
    return ByteCodec() if request.param == "bytes" else request.getfixturevalue("tokenizer_codec")
