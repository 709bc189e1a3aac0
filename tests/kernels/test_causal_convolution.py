"""The causal convolution against torch's, against itself cut anywhere, and its errors."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from everlong.core.errors import ContextError
from everlong.kernels.causal_convolution import convolve
from everlong.testing.compare import assert_near


@pytest.mark.parametrize("taps", [1, 2, 4, 7])
@pytest.mark.parametrize("T", [1, 3, 11])
@pytest.mark.parametrize("bias", [False, True])
def test_agrees_with_torch(taps: int, T: int, bias: bool) -> None:
    u, weight, b = torch.randn(2, T, 5).double(), torch.randn(5, taps).double(), torch.randn(5).double()
    expected = F.conv1d(F.pad(u.mT, (taps - 1, 0)), weight[:, None], b if bias else None, groups=5).mT
    y, past = convolve(u, weight, b if bias else None)
    assert_near(y, expected, 1e-12, "output")
    for cut in range(1, T):
        one, middle = convolve(u[:, :cut], weight, b if bias else None)
        other, last = convolve(u[:, cut:], weight, b if bias else None, past=middle)
        assert_near(torch.cat([one, other], dim=1), y, 1e-12, f"cut before {cut}")
        assert torch.equal(last, past)


def test_documents_and_padding() -> None:
    """Each document as if alone, and the past of the last one only, up to the last real position."""
    u, weight = torch.randn(2, 9, 3).double(), torch.randn(3, 4).double()
    documents, count_B = torch.tensor([[0, 0, 0, 1, 1, 2, 2, 2, 2], [1, 1, 1, 1, 1, 1, 1, 1, 1]]), torch.tensor([7, 9])
    y, past = convolve(u, weight, past=torch.randn(2, 3, 3).double(), documents=documents, count_B=count_B)
    assert_near(y[:1, 3:5], convolve(u[:1, 3:5], weight)[0], 1e-12, "the second document")
    last, after = convolve(u[:1, 5:7], weight)
    assert_near(y[:1, 5:7], last, 1e-12, "the third document")
    assert torch.equal(past[0], after[0])
    assert torch.equal(past[1], u[1, 6:])


def test_wrong_past() -> None:
    with pytest.raises(ContextError, match=r"past of the convolution = \(2, 2, 5\): must be \(2, 3, 5\)"):
        convolve(torch.randn(2, 4, 5), torch.randn(5, 4), past=torch.randn(2, 2, 5))
