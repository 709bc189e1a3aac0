"""Small blocks, so that streams of a dozen positions cross the borders of all of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from everlong.kernels import attention_fused, delta_rule, selective_scan, ssd_blocks
from everlong.resolution import smoothing
from everlong.sequence import attention, linear_attention
from tests.laws.catalogue import REPEATED


@pytest.hookimpl(tryfirst=True)  # before those are left out that are marked
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        example = getattr(item, "callspec", None)
        if example is not None and example.params.get("name") in REPEATED:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(autouse=True, scope="package")
def small_blocks() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention_fused, "SMALLEST_SQUARE", 2)
        patch.setattr(attention, "QUERY_BLOCK", 5)
        patch.setattr(linear_attention, "CHUNK", 4)
        patch.setattr(smoothing, "BLOCK", 4)
        patch.setattr(delta_rule, "CHUNK", 4)
        patch.setattr(selective_scan, "CHUNK", 4)
        for name, size in (("CHUNK", 4), ("PAIRWISE", 2), ("BLOCK", 8)):
            patch.setattr(ssd_blocks, name, size)
        yield
