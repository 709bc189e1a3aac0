"""What is minimised: the surprisal of the next token, in nats, summed so that batches may be cut anywhere.

Legend: B batch rows, T positions, N = B T, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from everlong.core.span import by_part
from everlong.data import IGNORED, Batch
from everlong.model.language_model import Output

Predictor = Callable[..., Output]
"""A language model, or a compiled form of it."""


class Surprisal(NamedTuple):
    """How a model did on a batch."""

    nats: Float[Tensor, ""]
    """Summed over the learnt targets."""
    auxiliary: dict[str, Float[Tensor, ""]]
    """The model's own named losses."""
    observed: dict[str, Float[Tensor, ""]]
    """Means of what every part of the model showed, by its label."""
    state: Any
    """Where the streams stand after the batch; `None` if nobody asked for it."""


def surprisal(model: Predictor, batch: Batch, state: Any = None, *, carry: bool = False) -> Surprisal:
    """Runs a model over a batch.

    Args:
        state: what the rows continue; `None`: they begin.
        carry: return the state after the batch too. Otherwise it is let go before the logits grow.
    """
    output = model(batch.ids_BT, state, documents=batch.documents_BT)
    logits_BTV, auxiliary, after = output.logits, output.auxiliary, output.state if carry else None
    observed = {label: value.float().mean() for label, value in by_part(output.observed)}
    del output
    exact = torch.promote_types(logits_BTV.dtype, torch.float32)
    logits_NV, targets_N = logits_BTV.flatten(0, 1).to(exact), batch.targets_BT.flatten()
    nats = F.cross_entropy(logits_NV, targets_N, ignore_index=IGNORED, reduction="sum")
    return Surprisal(nats, auxiliary, observed, after)
