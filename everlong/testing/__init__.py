"""The six laws (docs/design.md), for parts of one's own as for those of the library.

from everlong.testing import check_laws
check_laws(MyMixer.Config(width=8))

Each law is a file with its checks, which the tests of the library run over all its parts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from everlong.core.config import Config, check
from everlong.core.part import Part
from everlong.testing.accounted import check_accounted
from everlong.testing.bounded import check_bounded, check_bounded_by_document
from everlong.testing.causal import check_causal
from everlong.testing.example import make, width
from everlong.testing.isolated import check_isolated
from everlong.testing.placement_invariant import Oracle, check_placement_invariant
from everlong.testing.split_invariant import check_split_invariant
from everlong.testing.stream import Stream, random_layout

__all__ = ["Oracle", "Stream", "check_laws", "random_layout"]

LENGTH = 13
LAYOUTS = 3
"""Ways in which documents and padding are laid out in rows."""


def check_laws(
    config: Config, *, oracle: Oracle | None = None, nominal: Callable[[Part], object] | None = None
) -> None:
    """Holds a part, or a language model, to the six laws: in plain rows, and in rows of documents and padding.

    Args:
        config: of a small example, whose windows, chunks and segments a stream of 13 positions crosses.
        oracle: what the paper's equation gives, for law 5. `None`: what the part itself gives in float64, position by
            position; its forms then agree with each other, and nobody says that they are the paper's.
        nominal: for a part whose cost depends on the data: makes it choose at exactly its nominal rate.

    Raises:
        AssertionError: a law is broken; it says which, and by how much.
        ConfigError: Python runs with -O, which leaves assertions out.
    """
    check(__debug__, "python -O", True, "leaves assertions out, and so all that a law could say: run without it")
    part, D = make(config), width(config)
    plain = Stream.random(2, LENGTH, D)
    for stream in (plain, *(random_layout(plain, seed) for seed in range(LAYOUTS))):
        check_causal(part, stream)
        for cuts in (range(1, LENGTH), (4, 5, 11)):
            check_split_invariant(part, stream, cuts)
        check_isolated(part, stream)
        check_placement_invariant(part, stream, oracle or step_by_step(part))
    for seed in range(LAYOUTS):
        check_bounded_by_document(part, random_layout(Stream.random(1, LENGTH, D, seed), seed), ())
    if nominal is not None:
        nominal(part)
    check_bounded(part, D)
    check_accounted(part, D)


def step_by_step(part: Part) -> Oracle:
    """What a part in float64 answers when it is given one position at a time."""

    def answer(weights: Mapping[str, Tensor], stream: Stream) -> Tensor:
        outputs, state = [], None
        for x_B1D, span in stream.pieces(range(1, stream.shape[1])):
            y_B1D, state = torch.func.functional_call(part, dict(weights), (x_B1D, span, state))
            outputs.append(y_B1D)
        return torch.cat(outputs, dim=1)

    return answer
