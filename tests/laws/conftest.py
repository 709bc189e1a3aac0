"""Small blocks, so that streams of a dozen positions cross the borders of all of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from everlong.kernels import attention_cpu
from everlong.sequence import attention, linear_attention


@pytest.fixture(autouse=True, scope="package")
def small_blocks() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention_cpu, "SMALLEST_SQUARE", 2)
        patch.setattr(attention, "QUERY_BLOCK", 5)
        patch.setattr(linear_attention, "CHUNK", 4)
        yield
