"""Compiles the families that it is told, as one graph where it can be, and compares them with eager, in a process of
its own: the type checks of the test run are no code that a compiler can trace. Run by `test_compile.py`.

The backend does all that inductor does, decompositions included, but write code. (Plain `aot_eager` fails on the
gradient of torch's ELU for transposed input, whose strides torch predicts wrongly.)
"""

from __future__ import annotations

import sys
import warnings

import torch

from everlong import LanguageModel
from everlong.core.state import detach
from everlong.testing.compare import assert_near, assert_states_near, gradients_of
from tests.laws.catalogue import shrunken

BROKEN = {"engram", "engram-moe", "everlong", "hnet", "hnet2", "infini-mod", "mod", "moe", "over-encoding", "spacebyte"}
"""Families whose graph breaks: where a table is looked up, since its gradient is sparse, or where the number of chunks,
of routed positions, or of an expert's positions depends on the data."""


def check(model: LanguageModel, *, one_graph: bool) -> None:
    """Raises AssertionError if a number differs by 1e-12: logits, states and gradients of a first and a later call."""
    compiled = torch.compile(model, fullgraph=one_graph, backend="aot_eager_decomp_partition", dynamic=False)
    ids_BT, state = torch.randint(17, (2, 11)), None
    for part in (ids_BT[:, :7], ids_BT[:, 7:]):
        eager, other = model(part, state), compiled(part, state)
        assert_near(other.logits, eager.logits, 1e-12, "logits")
        assert_states_near(other.state, eager.state, 1e-12)
        for expected, found in zip(_gradients(eager.logits, model), _gradients(other.logits, model), strict=True):
            assert_near(found, expected, 1e-12, "gradient")
        state = detach(eager.state)


def _gradients(logits: torch.Tensor, model: LanguageModel) -> list[torch.Tensor]:
    return gradients_of(logits.square().mean(), model.parameters())


if __name__ == "__main__":
    torch.set_num_threads(1)
    for family in sys.argv[1:]:
        torch._dynamo.reset()  # its limit of compilations is for one model
        with warnings.catch_warnings():
            if family in BROKEN:  # where a graph breaks, the compiler itself looks at `.grad` of what is no leaf
                warnings.filterwarnings("ignore", "The .grad attribute", UserWarning)
            check(shrunken(family, layers=1).build().double(), one_graph=family not in BROKEN)
