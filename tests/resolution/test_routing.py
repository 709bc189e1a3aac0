"""Learned chunks: the two pairings, ties, the first boundary, and the ratio loss."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from everlong import Span
from everlong.core.errors import ConfigError
from everlong.resolution.chunkers import Opening
from everlong.resolution.chunks import starts
from everlong.resolution.routing import PaperRouting, Routing


def opened(routing: Routing, x_BTD: Tensor, real_BT: Tensor | None = None) -> tuple[Opening, Span]:
    """What a chunker says of one document a row."""
    ids_BT = torch.zeros(x_BTD.shape[:2], dtype=torch.int64)
    nothing_B = torch.zeros(len(ids_BT), dtype=torch.int64)
    span = Span.plain_from(ids_BT)
    if real_BT is not None:
        span = Span.ragged_from(ids_BT, torch.zeros_like(ids_BT), real_BT, nothing_B, nothing_B - 1)
    return routing(x_BTD, span, starts(span, None))[0], span


def routing(cls: type[Routing] = Routing, **numbers: Any) -> Routing:
    return cls.Config(width=4, **numbers).build().double()


def test_alike_vectors_go_on_and_others_open() -> None:
    """At first both projections are the identity, so p is that of the vectors themselves."""
    x_T4 = torch.tensor([[1, 0, 0, 0], [2, 0, 0, 0], [-1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0]])
    opening, _ = opened(routing(), x_T4.double()[None])
    assert opening.probability_BT is not None
    assert opening.probability_BT[0].tolist() == [1.0, 0.0, 1.0, 0.5, 0.5, 0.5]
    assert opening.opens_BT[0].tolist() == [True, False, True, False, False, False]  # a tie opens nothing
    assert opened(routing(PaperRouting), x_T4.double()[None])[0].opens_BT[0].tolist() == [True, False, *[True] * 4]


@pytest.mark.parametrize("cls", [Routing, PaperRouting])
def test_pairing(cls: type[Routing]) -> None:
    """A query that reads one coordinate and a key that reads another tell which of them looks back."""
    part = routing(cls)
    with torch.no_grad():
        part.q.weight.zero_()[0, 1] = 1.0
        part.k.weight.zero_()[0, 2] = 1.0
    x_1TD = torch.tensor([[[0.0, 1.0, 1.0, 0.0], [0.0, 2.0, -1.0, 0.0]]], dtype=torch.float64)
    probability_BT = opened(part, x_1TD)[0].probability_BT
    assert probability_BT is not None
    assert probability_BT[0, 1].item() == (1.0 if cls is Routing else 0.0)


def ratio_loss(share: float, mean: float, N: float) -> float:
    return N / (N - 1) * ((N - 1) * share * mean + (1 - share) * (1 - mean))


def test_ratio_loss() -> None:
    part, x_BTD = routing(bytes_per_chunk=2.5, ratio_weight=0.5), torch.randn(3, 11, 4, dtype=torch.float64)
    opening, span = opened(part, x_BTD)
    assert opening.probability_BT is not None
    share, mean = opening.opens_BT.double().mean().item(), opening.probability_BT.mean().item()
    assert span.auxiliary["ratio"].item() == pytest.approx(0.5 * ratio_loss(share, mean, 2.5))
    assert ratio_loss(1 / 2.5, 1 / 2.5, 2.5) == pytest.approx(1.0)


def padded(part: Routing) -> tuple[float, float]:
    """The ratio loss of a row, and of the same row with padding that differs from position to position."""
    x_1TD = torch.randn(1, 9, 4, dtype=torch.float64)
    alone = opened(part, x_1TD)[1].auxiliary["ratio"]
    noise = 100 * torch.randn(1, 7, 4, dtype=torch.float64)
    real_BT = torch.arange(16)[None] < 9
    with_padding = opened(part, torch.cat([x_1TD, noise], dim=1), real_BT)[1].auxiliary["ratio"]
    return alone.item(), with_padding.item()


def test_ratio_loss_leaves_padding_out() -> None:
    alone, with_padding = padded(routing())
    assert with_padding == pytest.approx(alone)


class CountsPadding(Routing):
    """The means over all positions, as in the authors' code."""

    def _report(self, span: Span, opens_BT: Tensor, p_BT: Tensor, real_BT: Tensor) -> None:
        super()._report(span, opens_BT, p_BT, torch.ones_like(real_BT))


def test_catches_counted_padding() -> None:
    alone, with_padding = padded(CountsPadding(Routing.Config(width=4)).double())
    assert with_padding != pytest.approx(alone)


def test_decides_in_float32() -> None:
    """A bfloat16 model has its probabilities in float32: 0.5001 stays above a half."""
    opening, _ = opened(routing().bfloat16(), torch.randn(1, 5, 4, dtype=torch.bfloat16))
    assert opening.probability_BT is not None
    assert opening.probability_BT.dtype == torch.float32


@pytest.mark.parametrize("numbers", [{"bytes_per_chunk": 1.0}, {"ratio_weight": -1.0}])
def test_errors(numbers: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=f"routing.{next(iter(numbers))}"):
        routing(**numbers)
