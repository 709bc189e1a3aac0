"""The GPU's benchmark of dilated attention, as far as a CPU can run it."""

from __future__ import annotations

import pytest
import torch

from benchmarks import dilated_cuda
from everlong.core.errors import ConfigError


def test_sides_are_one_function_up_to_the_first_segment():
    """The schedule is then one dense branch, and no head has an offset."""
    qkv = [torch.randn(1, 300, 4, 16) for _ in "qkv"]
    found = [side(*qkv) for side in dilated_cuda.SIDES.values()]
    for other in found[1:]:
        torch.testing.assert_close(other, found[0])


def test_measures_every_side():
    found = dilated_cuda.measure(128, "cpu")
    assert found["flash_by_flops"] == 1
    for work in ("forward", "forward and backward"):
        assert set(found[work]["timings"]) == set(dilated_cuda.SIDES)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_asks_for_a_gpu_first(monkeypatch):
    monkeypatch.setattr(dilated_cuda, "measure", lambda *_: pytest.fail("measured before it asked"))
    with pytest.raises(ConfigError, match="CUDA"):
        dilated_cuda.main()
